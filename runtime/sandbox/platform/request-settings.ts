import { baseUrl } from './base-url.ts';
import { domString } from './dom-string.ts';
import { URL } from './url.ts';
import { dictionaryOf, enumOf } from './web-idl.ts';

/** What a request says to a browser's cache and credentials. It is kept and given back; nothing here acts on it but `redirect`. */
export interface RequestSettings {
  readonly cache: string;
  readonly credentials: string;
  readonly integrity: string;
  readonly keepalive: boolean;
  readonly mode: string;
  readonly redirect: string;
  readonly referrer: string;
  readonly referrerPolicy: string;
}

const CACHES = ['default', 'no-store', 'reload', 'no-cache', 'force-cache', 'only-if-cached'];
const POLICIES = [
  '',
  'no-referrer',
  'no-referrer-when-downgrade',
  'same-origin',
  'origin',
  'strict-origin',
  'origin-when-cross-origin',
  'strict-origin-when-cross-origin',
  'unsafe-url',
];

/** Fetch Standard §5.4, steps for these members. `base`: those it has without. */
export function settingsOf(init: unknown, base: RequestSettings): RequestSettings {
  const given = dictionaryOf(init);
  const choose = (member: keyof RequestSettings, allowed: readonly string[]): string =>
    given[member] === undefined ? String(base[member]) : enumOf(given[member], allowed, member);
  if (given['window'] !== undefined && given['window'] !== null) throw new TypeError('window is not null');
  if (given['duplex'] !== undefined) enumOf(given['duplex'], ['half'], 'duplex');
  if (given['priority'] !== undefined) enumOf(given['priority'], ['high', 'low', 'auto'], 'priority');
  const settings = {
    cache: choose('cache', CACHES),
    credentials: choose('credentials', ['omit', 'same-origin', 'include']),
    integrity: given['integrity'] === undefined ? base.integrity : domString(given['integrity']),
    keepalive: given['keepalive'] === undefined ? base.keepalive : Boolean(given['keepalive']),
    mode: choose('mode', ['same-origin', 'no-cors', 'cors', 'navigate']),
    redirect: choose('redirect', ['follow', 'error', 'manual']),
    referrer: given['referrer'] === undefined ? base.referrer : referrerOf(domString(given['referrer'])),
    referrerPolicy: choose('referrerPolicy', POLICIES),
  };
  if (given['mode'] === 'navigate') throw new TypeError("the mode 'navigate' is a browser's own");
  if (settings.cache === 'only-if-cached' && settings.mode !== 'same-origin')
    throw new TypeError("the cache mode 'only-if-cached' needs the mode 'same-origin'");
  return settings;
}

function referrerOf(text: string): string {
  if (text === '') return '';
  const base = baseUrl();
  const url = new URL(text, base);
  const isOurs = base !== undefined && url.origin === new URL(base).origin;
  return isOurs ? url.href : 'about:client';
}
