/** A process that can be made before anybody needs it. */
interface Process {
  readonly ended: Promise<void>;
  readonly kill: () => void;
}

/** Processes of one kind, one made ahead: starting Node takes longer than most invocations. Each is taken once. */
export interface SpareProcess<P extends Process> {
  /** The one made ahead, or a new one. */
  take(): Promise<P>;
  /** Makes one ahead, unless one is there. */
  prepare(): void;
  close(): void;
}

export function spareProcess<P extends Process>(make: () => Promise<P>): SpareProcess<P> {
  let spare: Promise<P> | undefined;
  let closed = false;
  return {
    take() {
      const taken = spare ?? make();
      spare = undefined;
      return taken;
    },
    prepare() {
      if (spare !== undefined || closed) return;
      const mine = make();
      spare = mine;
      const forget = (): void => {
        if (spare === mine) spare = undefined;
      };
      mine.then((process_) => void process_.ended.then(forget), forget);
    },
    close() {
      closed = true;
      spare?.then(
        (process_) => process_.kill(),
        () => undefined,
      );
      spare = undefined;
    },
  };
}
