import type { Hono } from 'hono';
import { CfnError, digestSchema, encodeKeyConfigList, fromBase64url, OHTTP_KEYS_TYPE } from '../proto/index.ts';
import { anybody } from './access/guard.ts';
import type { AppEnv, Gateway } from './context.ts';

/**
 * `GET /.well-known/ohttp-gateway?worker=ID` (RFC 9540 §4): a worker's key configurations, the preferred one first. A convenience for
 * OHTTP tools: who seals to these takes the gateway's word. The same are in the worker's keys document, which its evidence binds.
 */
export function ohttpKeysRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  app.get('/.well-known/ohttp-gateway', anybody, (c) => {
    const id = digestSchema.safeParse(c.req.query('worker'));
    if (!id.success) throw new CfnError('CFN_INPUT_INVALID', 'worker: expected the id of an admitted worker');
    const worker = gateway.registry.get(id.data);
    if (worker === undefined) throw new CfnError('CFN_NOT_FOUND', 'no such worker is admitted');
    const { hybrid, config } = worker.keys.ohttp;
    const configs = [hybrid, config].flatMap((it) => (it === undefined ? [] : [fromBase64url(it)]));
    return c.body(encodeKeyConfigList(configs), 200, { 'content-type': OHTTP_KEYS_TYPE, 'cache-control': 'no-store' });
  });
}
