/** What relative URLs are relative to: a function has no location, unless it makes one. */
export function baseUrl(): string | undefined {
  const location: unknown = Reflect.get(globalThis, 'location');
  const href: unknown = typeof location === 'object' && location !== null ? Reflect.get(location, 'href') : undefined;
  return typeof href === 'string' ? href : undefined;
}
