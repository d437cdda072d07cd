import { CfnError, nameSchema } from '../proto/index.ts';

/** `tenant/function`. @throws {CfnError} `CFN_USAGE` */
export function parseFunctionName(text: string): { readonly tenant: string; readonly name: string } {
  const [tenant, name, ...rest] = text.split('/');
  if (!nameSchema.safeParse(tenant).success || !nameSchema.safeParse(name).success || rest.length > 0) {
    throw new CfnError('CFN_USAGE', `expected tenant/function, have ${text.slice(0, 200)}`);
  }
  return { tenant: tenant ?? '', name: name ?? '' };
}
