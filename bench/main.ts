import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { printTable, type Row } from './row.ts';

/**
 * `npm run bench -- [NAME…] [--json]`: each row measures the same work here and in what a user would take instead,
 * alternating in one run. Medians and ratios; the machine is named, because absolute times say little.
 */
const ROWS: Readonly<Record<string, () => Promise<Row[]>>> = {
  start: async () => (await import('./start.ts')).start(),
  trivial: async () => (await import('./trivial.ts')).trivial(),
  runtime: async () => (await import('./runtime.ts')).runtime(),
  jail: async () => (await import('./jail.ts')).jail(),
  stream: async () => (await import('./stream.ts')).stream(),
  ocr: async () => (await import('./ocr.ts')).ocr(),
  'co-tenant': async () => (await import('./co-tenant.ts')).coTenant(),
  abort: async () => (await import('./abort.ts')).abort(),
  wipe: async () => (await import('./wipe.ts')).wipe(),
  attestation: async () => (await import('./attestation.ts')).attestation(),
  gateway: async () => (await import('./gateway/index.ts')).gateway(),
  keys: async () => (await import('./keys/index.ts')).keys(),
};

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const names = positionals.length === 0 ? Object.keys(ROWS) : positionals;
const rows: Row[] = [];
for (const name of names) {
  const measure = ROWS[name];
  if (measure === undefined) {
    console.error(`no row ${name}; there are: ${Object.keys(ROWS).join(', ')}`);
    process.exit(2);
  }
  console.error(`measuring ${name} …`);
  rows.push(...(await measure()));
}
const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version, tee: 'SIMULATED' };
if (values.json) console.log(JSON.stringify({ machine, rows }, null, 2));
else {
  console.log(`${machine.cores} × ${machine.cpu}, Node ${machine.node}, TEE ${machine.tee}`);
  printTable(rows);
}
process.exit(0);
