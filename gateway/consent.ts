import { z } from 'zod';
import { CfnError, modelReferenceSchema, nameSchema, type FunctionManifest } from '../proto/index.ts';
import type { Store } from './store/index.ts';

/** What an operator admits or dismisses: a tenant or model owner, a function (`tenant/name`), a model (`owner/name@version`). */
export const consentSubjectSchema = z.union([
  nameSchema,
  z.templateLiteral([nameSchema, '/', nameSchema]),
  modelReferenceSchema,
]);

/** What counts where the operator has said nothing: everything is admitted, or only what is listed. */
export type ConsentDefault = 'all' | 'listed';

/** The operator's consent to what runs here; one of the four that a call needs. */
export interface Consent {
  /** @throws {CfnError} `CFN_OPERATOR_CONSENT_MISSING`, the same for a function and for a model of it */
  demand(manifest: FunctionManifest): Promise<void>;
}

export function operatorConsent(store: Pick<Store, 'consents'>, otherwise: ConsentDefault): Consent {
  return {
    async demand({ tenant, name, models }) {
      const subjects = [`${tenant}/${name}`, ...models.map(({ model }) => model)];
      const said = await store.consents([...subjects, ...subjects.map(ownerOf)]);
      const admitted = (subject: string): boolean =>
        said.get(subject) ?? said.get(ownerOf(subject)) ?? otherwise === 'all';
      if (subjects.every(admitted)) return;
      throw new CfnError(
        'CFN_OPERATOR_CONSENT_MISSING',
        'the operator has not admitted this function, or a model that it uses',
      );
    },
  };
}

const ownerOf = (subject: string): string => subject.split('/', 1)[0] ?? '';
