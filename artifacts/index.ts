export { sealedBytes, segmentAad, segmentCount, segmentNonce, TAG_BYTES, type ModelFile } from './stream.ts';
export { sealModel, MODEL_ENTRY, type SealedModel, type SealProgress } from './seal-model.ts';
export type { BlobStore } from './blob-store.ts';
export { folderBlobStore } from './folder-blob-store.ts';
export { httpBlobStore } from './http-blob-store.ts';
export { bundleFunction, readFunctionConfig, type FunctionBundle } from './bundle.ts';
export { CONFIG_FILE, type FunctionConfig } from './function-config.ts';
