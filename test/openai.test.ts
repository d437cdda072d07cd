import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { confidentialFetch, type ConfidentialFetch, type ConfidentialResponse } from '../client/index.ts';
import { startTestSystem, type TestSystem } from './local-system.ts';

/** Packages that know nothing of us, through `confidentialFetch`, to a function in the real runtime. */

// Speaks enough of the chat completions API. "wait" in a prompt: after the first piece it waits for longer than it may run.
const CHAT = `
const words = (prompt) => ['You', ' said', ': ', prompt];
const chunk = (delta, finish_reason = null, usage) => ({
  id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'parrot',
  choices: [{ index: 0, delta, finish_reason }], ...(usage && { usage }),
});
const usage = { prompt_tokens: 1, completion_tokens: 4, total_tokens: 5 };
function stream(prompt) {
  const text = new TextEncoder();
  const pieces = words(prompt);
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      if (at === 1 && prompt === 'wait') await new Promise(() => {});
      const send = (data) => controller.enqueue(text.encode('data: ' + (typeof data === 'string' ? data : JSON.stringify(data)) + '\\n\\n'));
      if (at < pieces.length) return send(chunk({ role: 'assistant', content: pieces[at++] }));
      send(chunk({}, 'stop', usage));
      send('[DONE]');
      controller.close();
    },
  }, { highWaterMark: 0 });
}
export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/v1/models') return Response.json({ object: 'list', data: [{ id: 'parrot', object: 'model', created: 1, owned_by: 'acme' }] });
  if (pathname !== '/v1/chat/completions') return Response.json({ error: { message: 'no such path', type: 'invalid_request_error' } }, { status: 404 });
  if (request.headers.get('authorization') !== 'Bearer secret-key') return Response.json({ error: { message: 'wrong key', type: 'invalid_request_error' } }, { status: 401 });
  const body = await request.json();
  const { content } = body.messages.at(-1);
  const prompt = typeof content === 'string' ? content : content.map(({ text }) => text).join('');
  if (body.stream) return new Response(stream(prompt), { headers: { 'content-type': 'text/event-stream' } });
  return Response.json({
    id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'parrot', usage,
    choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: words(prompt).join('') } }],
  });
} };`;

let system: TestSystem;
let baseURL: string;
const answers: ConfidentialResponse[] = [];
let fetch: typeof globalThis.fetch;
beforeAll(async () => {
  system = await startTestSystem();
  await system.deploy('chat', CHAT, { caller: { plaintext: false, logs: 'none' } });
  const endpoint = system.local.gatewayUrl;
  baseURL = `${endpoint}/v1`;
  const sealed: ConfidentialFetch = await confidentialFetch({ endpoint, function: 'demo/chat', policy: system.policy });
  fetch = async (input, init) => {
    const answer = await sealed(input, init);
    answers.push(answer);
    return answer;
  };
});
afterAll(() => system.stop());

/** Every answer so far was sealed, and its receipt holds. */
async function allReceipted(count: number): Promise<void> {
  expect(answers).toHaveLength(count);
  for (const { confidentiality } of answers.splice(0))
    expect((await confidentiality.receipt).receipt).toMatchObject({ outcome: 'ok', function: { name: 'chat' } });
}

describe('the openai package', () => {
  const client = (apiKey = 'secret-key'): OpenAI => new OpenAI({ baseURL, apiKey, fetch, maxRetries: 0 });
  const ask = (content: string) => ({ model: 'parrot', messages: [{ role: 'user' as const, content }] });

  test('lists, and completes', async () => {
    const models = await client().models.list();
    expect(models.data.map(({ id }) => id)).toEqual(['parrot']);
    const completion = await client().chat.completions.create(ask('hello'));
    expect(completion.choices[0]?.message.content).toBe('You said: hello');
    await allReceipted(2);
  });
  test('streams', async () => {
    const pieces: string[] = [];
    for await (const part of await client().chat.completions.create({ ...ask('hello'), stream: true }))
      pieces.push(part.choices[0]?.delta.content ?? '');
    expect(pieces).toEqual(['You', ' said', ': ', 'hello', '']);
    await allReceipted(1);
  });
  test('gets a piece while the function has not sent the next, and may stop there', async () => {
    const stream = await client().chat.completions.create({ ...ask('wait'), stream: true });
    for await (const part of stream) {
      expect(part.choices[0]?.delta.content).toBe('You'); // the function never sends another
      break;
    }
    const [answer] = answers.splice(0);
    await expect(answer?.confidentiality.receipt).rejects.toThrow();
  });
  test('knows errors of the function, aborts and time-outs for what they are', async () => {
    await expect(client('other').chat.completions.create(ask('x'))).rejects.toThrow(OpenAI.AuthenticationError);
    const signal = AbortSignal.abort();
    await expect(client().chat.completions.create(ask('x'), { signal })).rejects.toThrow(OpenAI.APIUserAbortError);
    await expect(client().chat.completions.create(ask('wait'), { timeout: 1 })).rejects.toThrow(
      OpenAI.APIConnectionTimeoutError,
    );
    answers.splice(0);
  });
});

describe('the ai package', () => {
  const model = () =>
    createOpenAICompatible({ name: 'cfn', baseURL, apiKey: 'secret-key', fetch, includeUsage: true })('parrot');

  test('generates', async () => {
    const { text, usage } = await generateText({ model: model(), prompt: 'hello', maxRetries: 0 });
    expect(text).toBe('You said: hello');
    expect(usage.totalTokens).toBe(5);
    await allReceipted(1);
  });
  test('streams', async () => {
    const { textStream } = streamText({ model: model(), prompt: 'hello', maxRetries: 0 });
    const pieces: string[] = [];
    for await (const piece of textStream) pieces.push(piece);
    expect(pieces).toEqual(['You', ' said', ': ', 'hello']);
    await allReceipted(1);
  });
  test('gets a piece while the function has not sent the next', async () => {
    const abort = new AbortController();
    const { textStream } = streamText({ model: model(), prompt: 'wait', maxRetries: 0, abortSignal: abort.signal });
    for await (const piece of textStream) {
      expect(piece).toBe('You');
      abort.abort();
      break;
    }
    answers.splice(0);
  });
});
