import { CfnError, verifyBundle, verifyManifest, type SignedManifest } from '../../proto/index.ts';
import { ISOLATE_POOL_SIZE } from '../../proto/index.ts';
import type { ModelHost, ModelUse } from './model-host.ts';
import type { SecretHost, SecretsUse } from './secret-host.ts';
import type { PreparedSandbox, SandboxProcess } from './sandbox-process.ts';
import type { SpareProcess } from './spare-process.ts';

/** A function version with its models held and its sandbox running. */
export interface ReadyFunction {
  readonly signed: SignedManifest;
  readonly models: readonly ModelUse[];
  readonly secrets: SecretsUse | undefined;
  readonly sandbox: SandboxProcess;
}

/** The function versions this worker was handed. */
export interface FunctionHost {
  /**
   * Verifies and starts a version.
   *
   * @param modelManifests exact bytes, one for each model of the manifest, in order
   * @throws {CfnError} `CFN_MANIFEST_ALTERED`, `CFN_ARTIFACT_ALTERED`, or whatever kept its models or its sandbox from starting
   */
  load(jws: string, bundle: Uint8Array, modelManifests: readonly Uint8Array[]): Promise<SignedManifest>;
  /** The version, started again where its sandbox or a lease has ended. @throws {CfnError} `CFN_FUNCTION_NOT_FOUND` */
  ready(version: string): Promise<ReadyFunction>;
  /** The manifest of a version that was handed over, running or not. @throws {CfnError} `CFN_FUNCTION_NOT_FOUND` */
  signed(version: string): SignedManifest;
  /** The same; `undefined` where it was not handed over. */
  find(version: string): SignedManifest | undefined;
  close(): void;
  pids(): readonly number[];
}

/** When a spare sandbox is made after one was taken, in ms. */
const SPARE_DELAY_MS = 2_000;
const ignore = (): void => undefined;

interface Slot {
  readonly signed: SignedManifest;
  readonly bundle: Uint8Array;
  readonly modelManifests: readonly Uint8Array[];
  current: Promise<ReadyFunction> | undefined;
}

export function functionHost(
  models: ModelHost,
  secrets: SecretHost,
  spares: SpareProcess<PreparedSandbox>,
): FunctionHost {
  const slots = new Map<string, Slot>();
  const sandboxes = new Set<SandboxProcess>();
  let preparingLater: NodeJS.Timeout | undefined;

  async function start(slot: Slot): Promise<ReadyFunction> {
    const { manifest } = slot.signed;
    const preparing = spares.take();
    const acquiring = manifest.models.map(async ({ binding }, i) => {
      const packageBytes = slot.modelManifests[i];
      if (packageBytes === undefined)
        throw new CfnError('CFN_MODEL_NOT_FOUND', `no model manifest came for ${binding}`);
      return models.acquire(binding, packageBytes, slot.signed);
    });
    const unsealing = secrets.acquire(slot.signed, async () => (await preparing).wrappingKey());
    try {
      const [uses, secretsUse] = await Promise.all([Promise.all(acquiring), unsealing]);
      const sandbox = await (
        await preparing
      ).start({
        limits: manifest.limits,
        vars: manifest.vars,
        secrets: secretsUse && { ...secretsUse, version: slot.signed.version },
        models: uses.map(({ binding, socketPath, shapes }) => ({ binding, socketPath, ...shapes })),
        poolSize: ISOLATE_POOL_SIZE,
        bundle: slot.bundle,
      });
      sandboxes.add(sandbox);
      void sandbox.ended.then(() => sandboxes.delete(sandbox));
      prepareLater();
      return { signed: slot.signed, models: uses, secrets: secretsUse, sandbox };
    } catch (error) {
      void preparing.then(({ kill }) => kill(), ignore);
      for (const use of acquiring) use.then((held) => held.release(), ignore);
      unsealing.then((held) => held?.dropped(), ignore);
      throw error;
    }
  }

  /** Not at once: the function that was just started is about to be called. */
  function prepareLater(): void {
    clearTimeout(preparingLater);
    preparingLater = setTimeout(() => spares.prepare(), SPARE_DELAY_MS);
    preparingLater.unref();
  }

  function ensure(slot: Slot): Promise<ReadyFunction> {
    if (slot.current !== undefined) return slot.current;
    const mine = start(slot);
    slot.current = mine;
    const forget = (): void => {
      if (slot.current === mine) slot.current = undefined;
    };
    mine.then(({ sandbox, models: uses, secrets: held }) => {
      const release = (): void => uses.forEach((use) => use.release());
      const stop = (): void => {
        forget();
        sandbox.kill();
        // One that is already taking its place acquires its models first: an engine that both need goes on.
        if (slot.current === undefined) release();
        else slot.current.then(release, release);
      };
      void sandbox.ended.then(stop);
      void sandbox.retired.then(() => {
        forget();
        ensure(slot).catch(ignore); // at once: so the engines are held on to, and the next caller does not wait
      });
      for (const use of uses) void use.ended.then(stop);
      if (held === undefined) return;
      void sandbox.ended.then(() => held.dropped());
      void held.ended.then(stop);
      void held.changed.then(() => {
        forget();
        ensure(slot).then(() => sandbox.retire(), stop); // what runs may end with the secrets it began with, unless there are none to follow
      });
    }, forget);
    return mine;
  }

  function slotOf(version: string): Slot {
    const slot = slots.get(version);
    if (slot === undefined)
      throw new CfnError('CFN_FUNCTION_NOT_FOUND', 'this worker was not handed that function version');
    return slot;
  }

  return {
    async load(jws, bundle, modelManifests) {
      const signed = await verifyManifest(jws);
      await verifyBundle(signed.manifest, bundle);
      const slot = slots.get(signed.version) ?? { signed, bundle, modelManifests, current: undefined };
      slots.set(signed.version, slot);
      await ensure(slot);
      return signed;
    },
    ready: async (version) => ensure(slotOf(version)),
    signed: (version) => slotOf(version).signed,
    find: (version) => slots.get(version)?.signed,
    close: () => {
      clearTimeout(preparingLater);
      spares.close();
      for (const sandbox of sandboxes) sandbox.kill();
    },
    pids: () => [...sandboxes].map((sandbox) => sandbox.pid),
  };
}
