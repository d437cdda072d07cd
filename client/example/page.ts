import {
  CfnError,
  confidentialFetch,
  parseWorkerPolicy,
  type Confidentiality,
  type VerifiedReceipt,
} from '../index.ts';

// An example of the SDK in a page: attest, seal, send, show the answer as it comes, and what stands behind it.

const element = <E extends HTMLElement>(id: string): E => document.querySelector(`#${id}`) as E;
const form = element<HTMLFormElement>('call');
const status = element('status');

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void submit();
});
await presets();

/** Whoever serves this page may say where its gateway is, and bring a policy. */
async function presets(): Promise<void> {
  const response = await fetch('settings.json');
  if (!response.ok) return;
  for (const [name, value] of Object.entries((await response.json()) as Record<string, string>)) {
    const field = form.elements.namedItem(name);
    if (field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement) field.value = value;
  }
}

async function submit(): Promise<void> {
  const fields = new FormData(form);
  const text = (name: string): string => {
    const value = fields.get(name);
    return typeof value === 'string' ? value.trim() : '';
  };
  const button = form.querySelector('button') as HTMLButtonElement;
  button.disabled = true;
  element('outcome').hidden = true;
  try {
    say('Appraising the evidence of the workers …');
    const sealed = await confidentialFetch({
      endpoint: text('endpoint'),
      function: text('function'),
      policy: parseWorkerPolicy(parseJson(text('policy'))),
      ...(text('relay') === '' ? {} : { relay: text('relay') }),
    });
    say('Sealing the request and sending it …');
    const body = text('body');
    const response = await sealed(text('path'), body === '' ? {} : { method: 'POST', body });
    const { confidentiality } = response;
    showTrust(confidentiality, response.status);
    element('outcome').hidden = false;
    await showAnswer(response);
    showReceipt(await confidentiality.receipt);
    say('The answer is whole, and its receipt holds.');
  } catch (error) {
    say(error instanceof CfnError ? `${error.code}: ${error.message}. ${error.remedy}` : String(error), true);
  } finally {
    button.disabled = false;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CfnError('CFN_POLICY_INVALID', 'the policy is not JSON', { cause });
  }
}

function say(words: string, failed = false): void {
  status.textContent = words;
  status.classList.toggle('failed', failed);
}

async function showAnswer(response: Response): Promise<void> {
  const answer = element('answer');
  answer.textContent = '';
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader?.read(); piece?.done === false; piece = await reader?.read())
    answer.append(piece.value);
}

function showTrust({ simulated, worker, claims, skipped, keyExchange, version }: Confidentiality, code: number): void {
  element('simulated').hidden = !simulated;
  element('facts').replaceChildren();
  fact('Status', String(code));
  fact('TEE', simulated ? 'SIMULATED' : worker.tee.toUpperCase());
  fact('Worker', worker.workerId);
  fact('Measurement', claims.tdx?.mrtd ?? claims.snp?.measurement ?? '');
  for (const { device, driver } of claims.gpus) fact('GPU', [device, driver].filter(Boolean).join(', driver '));
  fact('Function version', version);
  fact('Key exchange', keyExchange);
  fact('Checks passed', String(worker.findings.filter(({ outcome }) => outcome === 'passed').length));
  const lines = skipped.map(({ check, reason }) => line(`${check}: ${reason}`));
  element('skipped').replaceChildren(...(lines.length > 0 ? lines : [line('Nothing was left out.')]));
  element('claims').textContent = JSON.stringify(claims, undefined, 2);
}

function showReceipt({ receipt }: VerifiedReceipt): void {
  fact('Receipt', `${receipt.id}, ${receipt.outcome}`);
  fact('CPU time', `${receipt.usage.cpuMs.toFixed(1)} ms`);
  fact('Hosts reached', receipt.egress.map(({ host }) => host).join(', ') || 'none');
}

function fact(name: string, value: string): void {
  const [term, description] = [document.createElement('dt'), document.createElement('dd')];
  term.textContent = name;
  description.textContent = value;
  element('facts').append(term, description);
}

function line(text: string): HTMLLIElement {
  const item = document.createElement('li');
  item.textContent = text;
  return item;
}
