import type { VersionShare } from '../../proto/index.ts';

/** What made a deployment: an upload that is deployed whole, a choice of versions, a step back, or a roll-out that stopped itself. */
export type DeploymentCause = 'deploy' | 'versions' | 'rollback' | 'stopped';

/** Which versions of a function get requests, from then until the next one. */
export interface Deployment {
  readonly tenant: string;
  readonly name: string;
  /** Counts up from 1 for each function. */
  readonly id: number;
  readonly versions: readonly VersionShare[];
  /** RFC 3339, UTC. */
  readonly at: string;
  readonly cause: DeploymentCause;
  /** What its maker said of it, or why a roll-out stopped. */
  readonly message: string;
}

export interface VersionRecord {
  readonly version: string;
  /** RFC 3339, UTC; empty for those from before it was kept. */
  readonly uploadedAt: string;
}

export interface DeploymentStore {
  /**
   * Makes it the current deployment of its function. The oldest of a long history are dropped.
   *
   * @param after takes effect only where this one is the current; another gateway may have been faster
   * @throws {CfnError} `CFN_CONFLICT` where it is not; `CFN_FUNCTION_NOT_FOUND` for a version that the function does not have
   */
  addDeployment(deployment: Omit<Deployment, 'id'>, after?: number): Promise<Deployment>;
  currentDeployment(tenant: string, name: string): Promise<Deployment | undefined>;
  /** The newest first. */
  deployments(tenant: string, name: string): Promise<Deployment[]>;
  /** The newest first. */
  versions(tenant: string, name: string): Promise<VersionRecord[]>;
}
