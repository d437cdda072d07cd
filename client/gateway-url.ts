/** The URL of a path at the gateway, as it is reached: through a relay, the gateway's authority goes before the path. */
export function gatewayUrl(
  { endpoint, relay }: { readonly endpoint: string; readonly relay?: string | undefined },
  path: string,
): URL {
  if (relay === undefined) return new URL(path, endpoint);
  const base = new URL(relay);
  base.pathname = `${base.pathname.replace(/\/$/, '')}/${new URL(endpoint).host}${path}`;
  return base;
}
