import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, toHex, utf8 } from '../../../proto/index.ts';
import { parseCcelTable } from '../../evidence/ccel-table.ts';
import { parseEventLog } from '../../evidence/event-log.ts';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import { Findings } from '../findings.ts';
import { verifyEventLog, type EventLogClaims, type EventLogDemands } from './event-log.ts';
import { quotedPcrs, quotedRtmrs, type QuotedRegisters } from './replay.ts';
import { digestOf, eventLog, reasonsOf, uefiVariable, vector, type EventRequest } from './tpm.fixture.ts';

const none = { notChecked: 'not of this test' };
const demands: EventLogDemands = { secureBoot: none, separators: none, digests: none };
const quote = parseTdxQuote(vector('tdx/quotes/v4-cos113-00806f05.bin'));
const cosLog = vector('ccel/cos-113-ccel-data.bin');
/** Bytes of the events in `cosLog`; 0xff follows. */
const COS_LOG_BYTES = 18_101;

const verify = (bytes: Uint8Array, registers: QuotedRegisters, extra: Partial<EventLogDemands> = {}) =>
  reasonsOf((findings) => verifyEventLog(parseEventLog(bytes), registers, { ...demands, ...extra }, findings));

const claimsOf = (bytes: Uint8Array, registers: QuotedRegisters): Promise<EventLogClaims> =>
  verifyEventLog(parseEventLog(bytes), registers, demands, new Findings());

describe('CCEL of a TDX guest', () => {
  test('replays to the RTMRs of the quote', async () => {
    const findings = new Findings();
    const claims = await verifyEventLog(
      parseEventLog(cosLog),
      quotedRtmrs(quote.report.rtmrs),
      { ...demands, separators: 'required' },
      findings,
    );
    expect(findings.failures).toEqual([]);
    expect(claims.matched).toEqual(['RTMR 0', 'RTMR 1', 'RTMR 2']);
    expect(claims.secureBoot).toBe('disabled');
    expect(claims.events).toHaveLength(43);
    expect(findings.list).toContainEqual({
      check: 'event log replay of RTMR 3',
      outcome: 'skipped',
      detail: 'the log has no event for it',
    });
    expect(JSON.parse(JSON.stringify(claims))).toEqual(claims);
  });

  test('says which data the digests are over', async () => {
    const { events } = await claimsOf(cosLog, quotedRtmrs(quote.report.rtmrs));
    const by = (data: string) => events.filter((event) => event.data === data).map(({ description }) => description);
    expect(by('authentic')).toContain('variable SecureBoot = 00');
    expect(by('authentic')).toContain('Exit Boot Services Invocation');
    // GRUB hashes the command without its label and end.
    expect(by('partly authentic').find((text) => text.startsWith('/syslinux/vmlinuz.A init='))).toBeDefined();
    expect(by('descriptive')).toContain('/syslinux/vmlinuz.A');
    expect(by('descriptive')).toContain('ACPI DATA');
    expect(events[2]).toMatchObject({ register: 'RTMR 0', type: 'EV_EFI_VARIABLE_DRIVER_CONFIG' });
    expect(Math.max(...events.map(({ description }) => description.length))).toBeLessThanOrEqual(120);
  });

  test.each([
    ['ccel/cos-113-dupe-separator.bin.gz', 'a4de2df2', '0ee9366c', '4969684d'],
    ['ccel/CCEL_unpadded.data.bin.gz', '8083cd68', '6484f0d7', 'c3e7ed9d'],
    ['ccel/event_log.bin.gz', 'f68df151', '8adfd9a4', '00000000'],
    ['ccel/dstack-ccel.bin.gz', '274c2344', 'bdcf4ee0', '00000000'],
  ])('%s replays to the published registers', async (file, ...expected) => {
    const zero = new Uint8Array(48);
    const findings = new Findings();
    await verifyEventLog(parseEventLog(vector(file)), quotedRtmrs([zero, zero, zero, zero]), demands, findings);
    const replayed = findings.failures.map(({ detail }) => /the log gives ([0-9a-f]{8})/.exec(detail)?.[1]);
    expect(replayed).toEqual(expected.filter((value) => value !== '00000000'));
  });

  test('refuses a log whose separators are not where they belong', async () => {
    const log = vector('ccel/cos-113-dupe-separator.bin.gz');
    const rtmrs = [
      'a4de2df23e9611299123ba4359c42a5e578b0f8488bf1bba8ef5606d9ea5d81c97c064b482a5eac537d166bd0f0f752d',
      '0ee9366c928a77092f55e9e114c7394181fd264699155f0df77d23577618d5f650568a17d379355a07bd846e552f4e20',
      '4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1',
      '00'.repeat(48),
    ].map((value) => fromHex(value));
    expect(await verify(log, quotedRtmrs(rtmrs))).toEqual([]);
    expect(await verify(log, quotedRtmrs(rtmrs), { separators: 'required' })).toEqual(['evidence/event-log-order']);
  });

  test('refuses another quote, register by register', async () => {
    const rtmrs = quote.report.rtmrs.map((value) => Uint8Array.from(value));
    (rtmrs[1] as Uint8Array)[0] = 0;
    expect(await verify(cosLog, quotedRtmrs(rtmrs))).toEqual(['evidence/event-log-replay']);
    const claims = await claimsOf(cosLog, quotedRtmrs(rtmrs));
    expect(claims.matched).toEqual(['RTMR 0', 'RTMR 2']);
    expect(claims.events.some(({ register }) => register === 'RTMR 1')).toBe(false);
  });

  test('refuses registers that have to follow from the log and are not quoted', async () => {
    expect(await verify(cosLog, quotedRtmrs(quote.report.rtmrs.slice(0, 2)))).toEqual(['evidence/event-log-replay']);
  });

  test('refuses any change of a register or a digest; changed data is no longer authentic', async () => {
    const registers = quotedRtmrs(quote.report.rtmrs);
    const before = (await claimsOf(cosLog, registers)).events;
    await fc.assert(
      fc.asyncProperty(fc.nat(COS_LOG_BYTES - 66), fc.integer({ min: 1, max: 255 }), async (offset, bits) => {
        const at = 65 + offset;
        const bytes = cosLog.slice(0, COS_LOG_BYTES);
        bytes[at] = (bytes[at] ?? 0) ^ bits;
        const findings = new Findings();
        const reasons = await reasonsOf(async () => {
          const claims = await verifyEventLog(parseEventLog(bytes), registers, demands, findings);
          if (findings.failures.length > 0) return;
          // What is authentic is what it was: only types, labels and descriptions can change.
          expect(claims.events.map(({ register, digest }) => [register, digest])).toEqual(
            before.map(({ register, digest }) => [register, digest]),
          );
          for (const [i, event] of claims.events.entries())
            if (event.data !== 'descriptive') expect(event.description).toBe(before[i]?.description);
        });
        expect(reasons).not.toContain(undefined);
      }),
      { numRuns: 150 },
    );
  });

  test('digests can be limited to reference values, whatever the events call themselves', async () => {
    const registers = quotedRtmrs(quote.report.rtmrs);
    const { events } = await claimsOf(cosLog, registers);
    const listed = events.filter(({ register }) => register === 'RTMR 1').map(({ digest }) => digest);
    expect(await verify(cosLog, registers, { digests: new Map([[2, listed]]) })).toEqual([]);
    expect(await verify(cosLog, registers, { digests: new Map([[2, listed.slice(1)]]) })).toEqual([
      'policy/measurement',
    ]);
    expect(await verify(cosLog, registers, { digests: new Map([[4, []]]) })).toEqual(['evidence/event-log-replay']);
  });
});

describe('secure boot', () => {
  const EV_VARIABLE = 0x80000001;
  const SB = (value: string): EventRequest => ({
    register: 7,
    type: EV_VARIABLE,
    data: uefiVariable('SecureBoot', fromHex(value)),
  });
  const separator: EventRequest = { register: 7, type: 4, data: new Uint8Array(4) };
  const onlyPcr7 = async (requests: readonly EventRequest[]): Promise<[Uint8Array, QuotedRegisters]> => {
    let value: Uint8Array = new Uint8Array(32);
    for (const { register, data, measured = data } of requests)
      if (register === 7) value = await digestOf('SHA-256', value, await digestOf('SHA-256', measured));
    return [await eventLog('SHA-256', requests), { ...quotedPcrs('SHA-256', new Map([[7, value]])), required: [7] }];
  };
  const state = async (...requests: EventRequest[]): Promise<string> =>
    (await claimsOf(...(await onlyPcr7(requests)))).secureBoot;

  test('is read from the variable before the separator', async () => {
    expect(await state(SB('01'), separator)).toBe('enabled');
    expect(await state(SB('00'), separator)).toBe('disabled');
    expect(await state(SB(''), separator)).toBe('disabled');
    expect(await state(SB('02'), separator)).toBe('unknown');
    expect(await state(separator)).toBe('unknown');
    expect(await state(SB('01'))).toBe('unknown');
  });

  test('is not believed after the separator, twice, or of data that was not measured', async () => {
    expect(await state(separator, SB('01'))).toBe('unknown');
    expect(await state(SB('00'), separator, SB('01'))).toBe('disabled');
    expect(await state(SB('00'), SB('01'), separator)).toBe('unknown');
    expect(await state({ ...SB('01'), measured: SB('00').data }, separator)).toBe('unknown');
    // Hiding the measured value and showing another one later.
    expect(await state({ ...SB('00'), data: utf8('x'), measured: SB('00').data }, separator, SB('01'))).toBe('unknown');
    // A separator that calls itself something else is one.
    expect(await state({ ...separator, type: 0xd }, SB('01'))).toBe('unknown');
    // Something else that calls itself a separator is none.
    expect(await state(SB('01'), { ...separator, measured: utf8('x') })).toBe('unknown');
    const vendor = { ...SB('01'), data: SB('01').data.map((byte, at) => (at === 0 ? byte ^ 1 : byte)) };
    expect(await state(vendor, separator)).toBe('unknown');
  });

  test('in RTMR 0 it is among the first three events, where nobody else chooses content', async () => {
    const variable = { ...SB('01'), register: 1 };
    const end = { ...separator, register: 1 };
    const filler: EventRequest = { register: 1, type: 0x8000000b, data: utf8('a hand-off block') };
    const rtmr0 = async (requests: readonly EventRequest[]): Promise<string> => {
      let value: Uint8Array = new Uint8Array(48);
      for (const { data } of requests) value = await digestOf('SHA-384', value, await digestOf('SHA-384', data));
      const zero = new Uint8Array(48);
      return (await claimsOf(await eventLog('SHA-384', requests), quotedRtmrs([value, zero, zero, zero]))).secureBoot;
    };
    expect(await rtmr0([filler, filler, variable, end])).toBe('enabled');
    expect(await rtmr0([filler, filler, filler, variable, end])).toBe('unknown');
  });

  test('can be demanded', async () => {
    const [log, registers] = await onlyPcr7([SB('00'), separator]);
    expect(await verify(log, registers, { secureBoot: 'required' })).toEqual(['policy/measurement']);
    const [good, same] = await onlyPcr7([SB('01'), separator]);
    expect(await verify(good, same, { secureBoot: 'required' })).toEqual([]);
    expect(await verify(good, same, { separators: 'required' })).toEqual(['evidence/event-log-order']);
  });
});

describe('TPM logs', () => {
  const locality = (value: number): EventRequest => ({
    register: 0,
    type: 3,
    data: concatBytes(utf8('StartupLocality\0'), Uint8Array.of(value)),
  });
  const crtm: EventRequest = { register: 0, type: 8, data: utf8('version') };

  test.each([
    ['no locality', [], 0],
    ['locality 0', [locality(0)], 0],
    ['locality 3', [locality(3)], 3],
    ['locality 4', [locality(4)], 4],
  ] as const)('PCR 0 starts with %s', async (_name, before, first) => {
    const start = new Uint8Array(32);
    start[31] = first;
    const value = await digestOf('SHA-256', start, await digestOf('SHA-256', crtm.data));
    const registers = { ...quotedPcrs('SHA-256', new Map([[0, value]])), required: [0] };
    expect(await verify(await eventLog('SHA-256', [...before, crtm]), registers)).toEqual([]);
  });

  test('refuses a locality that is told twice, late, or is none', async () => {
    const parse = async (...requests: EventRequest[]) => {
      const bytes = await eventLog('SHA-256', requests);
      return reasonsOf(async () => void parseEventLog(bytes));
    };
    expect(await parse(locality(3), locality(3))).toEqual(['parse/duplicate']);
    expect(await parse(crtm, locality(3))).toEqual(['parse/duplicate']);
    expect(await parse(locality(2))).toEqual(['parse/length']);
    expect(await parse({ ...locality(3), register: 1 })).toEqual([]);
  });

  test('the registers of the dynamic root of trust start with ones', async () => {
    const event: EventRequest = { register: 17, type: 5, data: utf8('drtm') };
    const value = await digestOf('SHA-256', new Uint8Array(32).fill(0xff), await digestOf('SHA-256', event.data));
    const registers = { ...quotedPcrs('SHA-256', new Map([[17, value]])), required: [17] };
    expect(await verify(await eventLog('SHA-256', [event]), registers)).toEqual([]);
  });

  test('registers that are not required may have been extended by others', async () => {
    const findings = new Findings();
    const bytes = await eventLog('SHA-256', [{ register: 11, type: 13, data: utf8('event') }]);
    const registers = { ...quotedPcrs('SHA-256', new Map([[11, new Uint8Array(32)]])), required: [] };
    const claims = await verifyEventLog(parseEventLog(bytes), registers, demands, findings);
    expect(findings.failures).toEqual([]);
    expect(claims).toMatchObject({ matched: [], events: [] });
    expect(await verify(bytes, { ...registers, required: [11] })).toEqual(['evidence/event-log-replay']);
  });

  test('refuses a log without digests of the quoted bank', async () => {
    const bytes = await eventLog('SHA-384', [crtm]);
    const registers = { ...quotedPcrs('SHA-256', new Map([[0, new Uint8Array(32)]])), required: [0] };
    expect(await verify(bytes, registers)).toEqual(['evidence/event-log-replay']);
  });
});

describe('parsing', () => {
  const parse = (bytes: Uint8Array) => reasonsOf(async () => void parseEventLog(bytes));
  const log = cosLog.slice(0, COS_LOG_BYTES);

  test('finds the end: at the last byte, or where only fill follows', async () => {
    for (const fill of [new Uint8Array(), new Uint8Array(1000), new Uint8Array(1000).fill(0xff), new Uint8Array(3)])
      expect(parseEventLog(concatBytes(log, fill))).toMatchObject({ bytes: COS_LOG_BYTES, events: { length: 43 } });
    const mixed = new Uint8Array(100).fill(0xff);
    mixed[99] = 0;
    expect(await parse(concatBytes(log, mixed))).toEqual(['parse/length']);
    expect(await parse(concatBytes(log, utf8('rest')))).toEqual(['parse/length']);
  });

  test('refuses logs that are empty, huge, or of another form', async () => {
    expect(await parse(new Uint8Array())).toEqual(['parse/empty']);
    expect(await parse(new Uint8Array(2 * 1024 * 1024))).toEqual(['parse/length']);
    expect(await parse(new Uint8Array(4096))).toEqual(['parse/unsupported-version']);
    const change = (at: number, value: number): Uint8Array => {
      const bytes = log.slice();
      bytes[at] = value;
      return bytes;
    };
    expect(await parse(change(4, 1))).toEqual(['parse/unsupported-version']);
    expect(await parse(change(46, 0x32))).toEqual(['parse/unsupported-version']);
    expect(await parse(change(56, 0xff))).toEqual(['parse/length']); // algorithm count
    expect(await parse(change(62, 0x20))).toEqual(['parse/length']); // digest size
    expect(await parse(change(65, 0x18))).toEqual(['parse/length']); // register
    expect(await parse(change(73, 2))).toEqual(['parse/length']); // digest count
    expect(await parse(change(73, 0))).toEqual(['parse/length']);
    expect(await parse(change(77, 0x0b))).toEqual(['parse/unsupported-algorithm']);
    expect(await parse(change(130, 0xff))).toEqual(['parse/length']); // event length
  });

  test('cut anywhere but between events, it is refused; no bytes make the parser fail otherwise', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(log.length),
        fc.array(fc.tuple(fc.nat(log.length - 1), fc.nat(255)), { maxLength: 5 }),
        async (length, changes) => {
          const bytes = log.slice();
          for (const [at, value] of changes) bytes[at] = value;
          await parse(bytes);
          await parse(log.subarray(0, length));
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('CCEL table', () => {
  const table = vector('ccel/cos-113-ccel-table.bin');
  test('is parsed', () => {
    expect(parseCcelTable(table)).toEqual({ tee: 'tdx', logAreaBytes: 0x40000n, logAreaAddress: 0xbedbf000n });
  });
  test('any changed byte is refused', async () => {
    for (let at = 0; at < table.length; at++) {
      const bytes = table.slice();
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      expect(await reasonsOf(async () => void parseCcelTable(bytes))).toHaveLength(1);
    }
    expect(await reasonsOf(async () => void parseCcelTable(table.subarray(0, 55)))).toEqual(['parse/length']);
    expect(await reasonsOf(async () => void parseCcelTable(new Uint8Array(4).fill(0xff)))).toEqual(['parse/length']);
  });
});

test('the recorded log is what was recorded', async () => {
  expect(toHex(await digestOf('SHA-256', cosLog)).slice(0, 16)).toBe('090dc18758380a5c');
});
