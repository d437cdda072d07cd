import { CfnError } from '../../proto/index.ts';

/** The layers of a jail, in the order in which an attacker would meet them. */
export const LAYERS = [
  'namespaces',
  'file system',
  'privileges',
  'system calls',
  'memory bound',
  'task bound',
] as const;
export type LayerName = (typeof LAYERS)[number];

/** One layer on this machine, as a process under it has shown. */
export interface Layer {
  readonly name: LayerName;
  readonly inForce: boolean;
  /** By what it holds, or what was seen instead. */
  readonly detail: string;
  /** What to do where it is not in force. */
  readonly remedy?: string;
}

/** One line for people: what holds, or what is missing. */
export function describeLayers(layers: readonly Layer[]): string {
  const missing = layers.filter(({ inForce }) => !inForce).map(({ name }) => name);
  if (missing.length === 0)
    return `all ${layers.length} layers in force (${layers.map(({ name }) => name).join(', ')})`;
  const held = layers.filter(({ inForce }) => inForce).map(({ name }) => name);
  return `missing: ${missing.join(', ')}; in force: ${held.join(', ') || 'none'}; \`cfn doctor\` says what to do`;
}

/**
 * For a worker with other people's data: every layer, or none of it starts.
 *
 * @throws {CfnError} `CFN_JAIL_INCOMPLETE`
 */
export function requireEveryLayer(layers: readonly Layer[]): void {
  const missing = LAYERS.filter((name) => layers.find((layer) => layer.name === name)?.inForce !== true);
  if (missing.length > 0)
    throw new CfnError(
      'CFN_JAIL_INCOMPLETE',
      `layers of the sandbox that are not in force here: ${missing.join(', ')}`,
    );
}
