import { relative } from 'node:path';
import { z } from 'zod';
import { bundleFunction, type FunctionConfig } from '../artifacts/index.ts';
import {
  CfnError,
  digestSchema,
  isErrorCode,
  nameSchema,
  parseModelPackage,
  signManifest,
  toBase64url,
  type FunctionManifest,
} from '../proto/index.ts';
import { apiClient, type Api } from './api.ts';
import { openAuthorKey } from './author-key.ts';
import type { Cli } from './context.ts';
import { pinSecrets, type SecretSource } from './function-secrets.ts';
import { need, tenantOf, type Settings } from './settings.ts';

/** What the gateway says of a deployment. `workers` holds one entry for each admitted worker. */
const deploymentSchema = z.object({
  tenant: nameSchema,
  name: nameSchema,
  version: digestSchema,
  url: z.url(),
  workers: z.array(
    z.union([
      z.object({ workerId: z.string(), loaded: z.literal(true) }),
      z.object({ workerId: z.string(), loaded: z.literal(false), code: z.string(), message: z.string() }),
    ]),
  ),
});
export type Deployment = z.infer<typeof deploymentSchema>;

/**
 * Bundles a project, pins its models by digest, signs the manifest with the author's key and deploys both.
 *
 * @param options `secretsAt`: where the function's secrets are; by default where its configuration says. `deploy`: `false` uploads alone
 * @throws {CfnError} of the bundler, the gateway, or `CFN_MANIFEST_ALTERED` when the gateway stored another version
 */
export async function deployProject(
  projectDir: string,
  settings: Settings,
  cli: Cli,
  {
    secretsAt = ({ secrets }) => secrets,
    deploy = true,
  }: {
    readonly secretsAt?: (config: FunctionConfig) => SecretSource;
    readonly deploy?: boolean;
  } = {},
): Promise<Deployment> {
  const { context, output } = cli;
  const gateway = apiClient({
    service: 'gateway',
    url: need(settings, 'gateway'),
    token: need(settings, 'token'),
    fetch: context.fetch,
    signal: context.ended,
  });
  const tenant = tenantOf(settings);

  const bundling = output.step(`bundling ${relative(context.cwd, projectDir) || '.'}`);
  const { config, bundle, code } = await bundleFunction({ projectDir });
  bundling.done(`${(bundle.length / 1024).toFixed(0)} KiB`);

  const models = await pinModels(gateway, config);
  const secrets = await pinSecrets(config.secrets.required, secretsAt(config), tenant, settings, cli);
  const author = await openAuthorKey(context);
  if (author.made) output.note(`made your author key: ${author.file}; keep it, grants can name it`);
  const manifest: FunctionManifest = {
    format: 'cfn/function/v1',
    tenant,
    name: config.name,
    compatibilityDate: config.compatibilityDate,
    code,
    models,
    vars: { ...config.vars },
    ...secrets,
    limits: { ...config.limits },
    egress: { allow: [...config.egress.allow] },
    caller: { ...config.caller },
  };
  const signed = await signManifest(manifest, author.key, author.publicJwk);

  const uploading = output.step(`${deploy ? 'deploying' : 'uploading'} ${tenant}/${config.name}`);
  const path = `/v1/functions/${tenant}/${config.name}/versions`;
  const deployment = await gateway.json('POST', path, deploymentSchema, {
    manifest: signed.jws,
    bundle: toBase64url(bundle),
    ...(deploy ? {} : { deploy }),
  });
  if (deployment.version !== signed.version) {
    throw new CfnError(
      'CFN_MANIFEST_ALTERED',
      `the gateway stored version ${deployment.version}, signed was ${signed.version}`,
    );
  }
  uploading.done();
  return deployment;
}

/** The error of a deployment that no worker could load; it is stored all the same. */
export function loadFailure({ workers }: Deployment): CfnError | undefined {
  const failed = workers.flatMap((worker) => (worker.loaded ? [] : [worker]));
  const [first] = failed;
  if (first === undefined || failed.length < workers.length) return undefined;
  const code = isErrorCode(first.code) ? first.code : 'CFN_WORKER_UNAVAILABLE';
  return new CfnError(code, `stored, but no worker could load it: ${first.message}`);
}

/** A reference names a package; its digest is what the author signs, so that nobody can put another one there later. */
async function pinModels(gateway: Api, { models }: FunctionConfig): Promise<FunctionManifest['models']> {
  return Promise.all(
    models.map(async ({ binding, model }) => {
      const { bytes } = await gateway.bytes(modelPath(model));
      const found = await parseModelPackage(bytes);
      if (found.model !== model)
        throw new CfnError('CFN_ARTIFACT_ALTERED', `the gateway gave ${found.model} for ${model}`);
      return { binding, model, digest: found.digest };
    }),
  );
}

/** `owner/name@version` as a path of the catalogue. */
export function modelPath(model: string): string {
  return `/v1/models/${model.replace('@', '/')}`;
}
