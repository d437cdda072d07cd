import { readFileSync } from 'node:fs';
import { test } from 'vitest';
import { parseCrl, type Crl } from '../../evidence/crl.ts';
import { parseCertificate, parsePemChain, type Certificate } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import { verifySnpReport } from './verify.ts';

const folder = new URL('../../vectors/snp/', import.meta.url);
const cases = JSON.parse(readFileSync(new URL('cases.json', folder), 'utf8'));
for (const one of cases)
  test(one.id, async () => {
    let report = new Uint8Array();
    const certificates: Certificate[] = [];
    const crls: Crl[] = [];
    for (const path of one.inputs) {
      const bytes = new Uint8Array(readFileSync(new URL(path, folder)));
      if (path.endsWith('.bin')) report = bytes;
      else if (path.endsWith('.pem')) certificates.push(...parsePemChain(new TextDecoder().decode(bytes)));
      else if (path.includes('crl')) crls.push(parseCrl(bytes));
      else certificates.push(parseCertificate(bytes));
    }
    const findings = new Findings();
    const result = await verifySnpReport(
      { report, certificates, crls, revocation: { notChecked: 'x' }, now: new Date(one.now) },
      findings,
    );
    console.log(one.id, one.expect, findings.failures);
    console.log(
      one.id,
      findings.list.filter((f) => f.outcome !== 'failed'),
      one.id === 'genoa-v3-accept' ? result.claims : '',
    );
  });
