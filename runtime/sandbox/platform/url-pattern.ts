import { URLPattern as Base } from 'urlpattern-polyfill/urlpattern';

type Init = Record<string, unknown>;

/** What the URL parser drops or stops at in a host (URL Pattern Standard §3.2). A pattern with groups is left as it is. */
function hostOf(pattern: string): string {
  if (/[({]/.test(pattern)) return pattern;
  return pattern.replace(/[\t\n\r]/g, '').replace(/(?:[/#]|\\[?\\]).*$/s, '');
}
/** The same for a port: it ends where its digits do. */
function portOf(port: string): string {
  return /^[\t\n\r]*\d/.test(port) ? (/^\d+/.exec(port.replace(/[\t\n\r]/g, ''))?.[0] ?? port) : port;
}

function clean(input: unknown, isPattern: boolean): unknown {
  if (typeof input !== 'object' || input === null) return input;
  const { hostname, port } = input as Init;
  const cleaned: Init = { ...input };
  if (typeof hostname === 'string' && isPattern) cleaned['hostname'] = hostOf(hostname);
  if (typeof port === 'string' && (!isPattern || /^\d+ $/.test(port))) cleaned['port'] = portOf(port);
  return cleaned;
}

/** The kept implementation, with components as the URL parser reads them. */
export class URLPattern extends (Base as unknown as new (...given: unknown[]) => {
  test(...given: unknown[]): boolean;
  exec(...given: unknown[]): { inputs: unknown[] } | null;
}) {
  constructor(...[input, ...rest]: unknown[]) {
    super(clean(input === undefined ? {} : input, true), ...rest);
  }
  override test(...[input, ...rest]: unknown[]): boolean {
    return super.test(clean(input, false), ...rest);
  }
  override exec(...[input, ...rest]: unknown[]): { inputs: unknown[] } | null {
    const found = super.exec(clean(input, false), ...rest);
    if (found !== null && input !== undefined) found.inputs[0] = input;
    return found;
  }
}
