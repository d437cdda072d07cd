import { BlockList, isIP } from 'node:net';

// IANA special-purpose registries (RFC 6890 and its updates): what is not an address of the public internet.
const V4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10', // carrier-grade NAT
  '127.0.0.0/8',
  '169.254.0.0/16', // link-local; cloud metadata
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4', // multicast
  '240.0.0.0/4',
];
/** Holes in 2000::/3, the only part of IPv6 that is given out. All else (loopback, local, multicast, v4-mapped, NAT64) is outside of it. */
const V6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

const closed = new BlockList();
for (const range of V4) closed.addSubnet(...parts(range), 'ipv4');
for (const range of V6) closed.addSubnet(...parts(range), 'ipv6');
const given = new BlockList();
given.addSubnet('2000::', 3, 'ipv6');

function parts(range: string): [string, number] {
  const [network = '', bits] = range.split('/');
  return [network, Number(bits)];
}

/** True for an address of the public internet; false for everything else, what is no address included. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !closed.check(address, 'ipv4');
    case 6:
      return given.check(address, 'ipv6') && !closed.check(address, 'ipv6');
    default:
      return false;
  }
}
