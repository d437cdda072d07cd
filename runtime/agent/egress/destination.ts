import { isIP } from 'node:net';

/** Why a fetch was refused, in words for the function. Holds nothing that the function did not say itself. */
export class EgressRefused extends Error {}

/** Where a fetch goes. */
export interface Destination {
  readonly url: URL;
  readonly host: string;
  readonly port: number;
  /** `host`, or `host:port` for another port than 443: as the manifest names it. */
  readonly name: string;
}
export interface Address {
  readonly address: string;
  readonly family: 4 | 6;
}
export type Resolve = (host: string) => Promise<readonly { readonly address: string }[]>;

/** @throws {EgressRefused} unless the manifest allows it */
export function destinationOf(text: string, allow: readonly string[]): Destination {
  const url = URL.parse(text);
  if (url === null) throw new EgressRefused('fetch: the URL cannot be parsed');
  if (url.protocol !== 'https:') throw new EgressRefused(`fetch: ${url.protocol}// is not allowed, only https://`);
  if (url.username !== '' || url.password !== '') throw new EgressRefused('fetch: the URL has credentials');
  const port = url.port === '' ? 443 : Number(url.port);
  const name = port === 443 ? url.hostname : `${url.hostname}:${port}`;
  if (!allow.includes(name))
    throw new EgressRefused(`fetch: ${name} is not in [egress] allow of the function's manifest`);
  return { url, host: url.hostname, port, name };
}

/**
 * The one address to connect to. The name is resolved once, and the connection goes to what was checked: a name that means something
 * else a moment later changes nothing.
 *
 * @throws {EgressRefused} when any of its addresses is not of the public internet: then nobody can tell which one was meant
 */
export async function pinnedAddress(
  { host, name }: Destination,
  resolve: Resolve,
  isAllowed: (address: string) => boolean,
): Promise<Address> {
  const addresses = isIP(host) === 0 ? await resolve(host).catch(() => []) : [{ address: host }];
  const [first] = addresses;
  if (first === undefined) throw new EgressRefused(`fetch: ${name} has no address`);
  if (!addresses.every(({ address }) => isAllowed(address)))
    throw new EgressRefused(`fetch: ${name} has an address that is not of the public internet`);
  return { address: first.address, family: isIP(first.address) === 4 ? 4 : 6 };
}
