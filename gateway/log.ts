/** One line of the log. Fields are names, ids, codes and counts; never payload, keys or tokens. */
export type Log = (event: string, fields?: Readonly<Record<string, string | number | boolean>>) => void;
