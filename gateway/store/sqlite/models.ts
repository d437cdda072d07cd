import { CfnError, equalBytes } from '../../../proto/index.ts';
import { LIST_MAX } from '../../limits.ts';
import type { ModelRecord, ModelStore } from '../models.ts';
import { guarded, type Database } from './database.ts';

export function sqliteModels({ run, one, all }: Database): ModelStore {
  return {
    addModel: guarded((record, manifest) => {
      const { model, digest, createdAt } = record;
      const sql = 'INSERT OR IGNORE INTO models (model, digest, manifest, created_at) VALUES (?, ?, ?, ?)';
      if (run(sql, model, digest, manifest, createdAt) === 1) return true;
      const held = one<{ manifest: Uint8Array }>('SELECT manifest FROM models WHERE model = ?', model);
      if (held === undefined || !equalBytes(held.manifest, manifest)) {
        throw new CfnError('CFN_CONFLICT', `model ${model} exists with other content`);
      }
      return false;
    }),
    models: guarded((owner) => {
      const select = 'SELECT model, digest, created_at AS createdAt FROM models';
      const tail = 'ORDER BY model LIMIT ?';
      return owner === undefined
        ? all<ModelRecord>(`${select} ${tail}`, LIST_MAX)
        : all<ModelRecord>(`${select} WHERE model GLOB ? || '/*' ${tail}`, owner, LIST_MAX); // names hold no pattern's characters
    }),
    model: guarded((reference) =>
      one<{ digest: string; manifest: Uint8Array }>('SELECT digest, manifest FROM models WHERE model = ?', reference),
    ),
  };
}
