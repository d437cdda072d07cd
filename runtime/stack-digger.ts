/**
 * Gives a function that overwrites the stack below its caller with zeros, to the end of what V8 may use of it: it calls itself with
 * arguments that are zero until the stack is full; many at first, for that is quicker than many calls, and few for what is left.
 *
 * Its source is sent into isolates: it names nothing from outside.
 */
export function stackDigger(): () => void {
  const rows = [4096, 256, 16].map((length) => Array.from({ length }, () => 0));
  let row = 0;
  const dig = (): unknown => {
    while (row < rows.length) {
      try {
        return Reflect.apply(dig, undefined, rows[row] ?? []);
      } catch {
        row += 1;
      }
    }
    return 0; // the call above is no tail call
  };
  return () => {
    row = 0;
    dig();
  };
}
