import { ByteReader, toHex } from '../../proto/index.ts';
import { refuse } from './reasons.ts';

/** Largest table, in bytes: the host hands over a few pages. */
const TABLE_BYTES_MAX = 64 * 1024;
/** Most entries; hosts give three to five. */
const ENTRIES_MAX = 16;
const ENTRY_BYTES = 24;

/** Ids of the entries (GHCB specification 56421, table 9), as bytes in the order they are written in. */
const ENTRIES: Readonly<Record<string, keyof SnpCertificateTable>> = {
  '63da758de6644564adc5f4b93be8accd': 'certificates', // VCEK
  a8074bc2a25a483eaae639c045a0b8a1: 'certificates', // VLEK
  '4ab7b379bbac4fe4a02f05aef327c782': 'certificates', // ASK, or ASVK
  c0b406a4a803495297433fb6014cd0ae: 'certificates', // ARK
  '92f81bc358114d3d97ffd19f88dc67ea': 'crls',
};
const END = '00'.repeat(16);

/** DER of what the host gave along with a report. The host is not trusted, so not even which is which is kept. */
export interface SnpCertificateTable {
  readonly certificates: readonly Uint8Array[];
  readonly crls: readonly Uint8Array[];
}

/**
 * Parses the certificate table of an extended guest request, which Linux gives as configfs-tsm `auxblob`: entries of id, offset,
 * length, up to one of zeros; then the data. No bytes at all are an empty table. Entries with other ids are left out.
 *
 * @throws {Refusal} `parse/length`, `parse/duplicate`; CfnError `CFN_EVIDENCE_MALFORMED` when it ends too early
 */
export function parseSnpCertificateTable(bytes: Uint8Array): SnpCertificateTable {
  const table = { certificates: [] as Uint8Array[], crls: [] as Uint8Array[] };
  if (bytes.length === 0) return table;
  if (bytes.length > TABLE_BYTES_MAX)
    refuse('parse/length', `certificate table has ${bytes.length} bytes, at most ${TABLE_BYTES_MAX} are taken`);
  for (const { id, offset, length } of parseHeader(bytes)) {
    const list = ENTRIES[id];
    if (offset > bytes.length || length > bytes.length - offset)
      refuse('parse/length', `entry ${id} of the certificate table is at ${offset}, ${length} bytes, past the end`);
    if (list !== undefined && length > 0) table[list].push(bytes.subarray(offset, offset + length));
  }
  return table;
}

function parseHeader(bytes: Uint8Array): { id: string; offset: number; length: number }[] {
  const reader = new ByteReader(bytes);
  const entries: { id: string; offset: number; length: number }[] = [];
  for (;;) {
    const id = toHex(reader.take(16, 'entry id'));
    const offset = reader.u32le('entry offset');
    const length = reader.u32le('entry length');
    if (id === END && offset === 0 && length === 0) break;
    if (entries.length === ENTRIES_MAX) refuse('parse/length', 'certificate table has too many entries');
    if (entries.some((entry) => entry.id === id)) refuse('parse/duplicate', `certificate table has two entries ${id}`);
    entries.push({ id, offset, length });
  }
  const headerBytes = (entries.length + 1) * ENTRY_BYTES;
  for (const { id, offset } of entries)
    if (offset < headerBytes) refuse('parse/length', `entry ${id} of the certificate table points into its header`);
  return entries;
}
