import {
  CfnError,
  ISOLATE_POOL_SIZE,
  memoryNeeds,
  neededBytes,
  verifyBundle,
  verifyManifest,
  type MemoryNeeds,
  type SignedManifest,
} from '../../proto/index.ts';
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
  /**
   * The version, started again where its sandbox or a lease has ended, or where it left because nobody called it.
   *
   * @throws {CfnError} `CFN_FUNCTION_NOT_FOUND`, `CFN_BUSY` when there is no memory for it
   */
  ready(version: string): Promise<ReadyFunction>;
  /** The manifest of a version that was handed over, running or not. @throws {CfnError} `CFN_FUNCTION_NOT_FOUND` */
  signed(version: string): SignedManifest;
  /** The same; `undefined` where it was not handed over. */
  find(version: string): SignedManifest | undefined;
  /** Versions whose sandbox runs, with the requests under way in each. */
  running(): readonly { readonly version: string; readonly inflight: number }[];
  /** Bytes: what this worker may promise, and what of that it has not. */
  memory(): { readonly budget: number; readonly free: number };
  close(): void;
  pids(): readonly number[];
}

export interface FunctionHostOptions {
  /** A version that nobody called for so long ends its sandbox and gives its leases back, ms. */
  readonly idleMs: number;
  /** What sandboxes and engines may need together, in bytes. */
  readonly memoryBytes: number;
  readonly monotonicMs: () => number;
}

/** A version that was called in the last moments is not ended to make room, in ms: its next request may be on its way to the sandbox. */
const JUST_USED_MS = 2_000;
/** Between two looks for versions that nobody calls, in ms, at most. */
const IDLE_LOOK_MS = 5_000;
/** Bundles of versions that do not run are kept up to so many bytes; then those go that were not called for longest. */
const HELD_BUNDLE_BYTES_MAX = 256 * 1024 * 1024;

/** When a spare sandbox is made after one was taken, in ms. */
const SPARE_DELAY_MS = 2_000;
const ignore = (): void => undefined;

interface Slot {
  readonly signed: SignedManifest;
  readonly bundle: Uint8Array;
  readonly modelManifests: readonly Uint8Array[];
  readonly needs: MemoryNeeds;
  current: Promise<ReadyFunction> | undefined;
  /** Of `current`, once it runs. */
  sandbox: SandboxProcess | undefined;
  usedAtMs: number;
}

export function functionHost(
  models: ModelHost,
  secrets: SecretHost,
  spares: SpareProcess<PreparedSandbox>,
  { idleMs, memoryBytes, monotonicMs }: FunctionHostOptions,
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
    const refusal = makeRoom(slot);
    if (refusal !== undefined) return Promise.reject(refusal);
    const mine = start(slot);
    slot.current = mine;
    const forget = (): void => {
      if (slot.current === mine) slot.current = slot.sandbox = undefined;
    };
    mine.then(({ sandbox, models: uses, secrets: held }) => {
      if (slot.current === mine) slot.sandbox = sandbox;
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

  const promised = (...more: readonly MemoryNeeds[]): number =>
    neededBytes([
      ...[...slots.values()].filter(({ current }) => current !== undefined).map(({ needs }) => needs),
      ...more,
    ]);

  /** Versions that run and that nobody called for so long, the longest first. */
  function unused(forMs: number): Slot[] {
    const nowMs = monotonicMs();
    const running = [...slots.values()].filter(({ sandbox }) => sandbox !== undefined);
    for (const slot of running) if ((slot.sandbox?.inflight() ?? 0) > 0) slot.usedAtMs = nowMs;
    return running.filter(({ usedAtMs }) => nowMs - usedAtMs >= forMs).toSorted((a, b) => a.usedAtMs - b.usedAtMs);
  }

  /** Its sandbox ends, and with it its leases; the next request starts it anew. */
  function leave(slot: Slot): void {
    const { sandbox } = slot;
    slot.current = slot.sandbox = undefined;
    sandbox?.retire();
  }

  /** Ends what nobody uses until there is memory for one more. @returns the refusal when that is not enough */
  function makeRoom(slot: Slot): CfnError | undefined {
    const candidates = unused(JUST_USED_MS);
    while (promised(slot.needs) > memoryBytes) {
      const longest = candidates.shift();
      if (longest === undefined) return new CfnError('CFN_BUSY', 'this worker has no memory for one more function');
      leave(longest);
    }
    return undefined;
  }

  function dropBundles(): void {
    let bytes = [...slots.values()].reduce((sum, { bundle }) => sum + bundle.length, 0);
    const resting = [...slots.values()].filter(({ current }) => current === undefined);
    for (const slot of resting.toSorted((a, b) => a.usedAtMs - b.usedAtMs)) {
      if (bytes <= HELD_BUNDLE_BYTES_MAX) return;
      slots.delete(slot.signed.version);
      bytes -= slot.bundle.length;
    }
  }

  const idleLook = setInterval(() => unused(idleMs).forEach(leave), Math.min(IDLE_LOOK_MS, Math.max(50, idleMs / 4)));
  idleLook.unref();

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
      const needs = await memoryNeeds(signed, modelManifests);
      const fresh = { signed, bundle, modelManifests, needs, current: undefined, sandbox: undefined, usedAtMs: 0 };
      const slot = slots.get(signed.version) ?? fresh;
      slots.set(signed.version, slot);
      slot.usedAtMs = monotonicMs();
      dropBundles();
      await ensure(slot);
      return signed;
    },
    async ready(version) {
      const slot = slotOf(version);
      slot.usedAtMs = monotonicMs();
      return ensure(slot);
    },
    signed: (version) => slotOf(version).signed,
    find: (version) => slots.get(version)?.signed,
    running: () =>
      [...slots.values()].flatMap(({ signed, sandbox }) =>
        sandbox === undefined ? [] : [{ version: signed.version, inflight: sandbox.inflight() }],
      ),
    memory: () => ({ budget: memoryBytes, free: memoryBytes - promised() }),
    close: () => {
      clearInterval(idleLook);
      clearTimeout(preparingLater);
      spares.close();
      for (const sandbox of sandboxes) sandbox.kill();
    },
    pids: () => [...sandboxes].map((sandbox) => sandbox.pid),
  };
}
