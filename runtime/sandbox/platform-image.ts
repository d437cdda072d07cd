import ivm from 'isolated-vm';
import { PARTS, type PartName } from './platform/parts.ts';

/** The web platform as scripts, made by `platform-source.ts`. */
export interface PlatformSource {
  readonly core: string;
  /** Bodies of functions `(require, module, intrinsics)`. */
  readonly parts: Readonly<Record<PartName, string>>;
}

/** Reads what `buildPlatformSource` wrote; it comes from the agent. */
export const readPlatform = (text: string): PlatformSource => JSON.parse(text) as PlatformSource;

interface Script {
  readonly code: string;
  readonly filename: string;
}

/** The scripts that make the platform in a bare isolate, with these parts evaluated. */
export function platformScripts({ core, parts }: PlatformSource, loaded: readonly PartName[]): Script[] {
  const scripts = [{ code: core, filename: 'cfn:platform' }];
  if (loaded.length === 0) return scripts;
  // Each on its own, and all of them: a part may use another one. What is not used leaves nothing behind.
  for (const [name, source] of Object.entries(parts)) {
    const code = `__boot.offerPart(${JSON.stringify(name)}, function (require, module, intrinsics) { ${source} });`;
    scripts.push({ code, filename: `cfn:${name}` });
  }
  const code = `${loaded.map((name) => `__boot.loadPart(${JSON.stringify(name)});`).join('')} __boot.dropOffers();`;
  return [...scripts, { code, filename: 'cfn:parts' }];
}

export function makeSnapshot(source: PlatformSource, loaded: readonly PartName[]): ivm.ExternalCopy<ArrayBuffer> {
  return ivm.Isolate.createSnapshot(platformScripts(source, loaded));
}

/** The parts whose globals occur in the text of a bundle. Other spellings of them work as well, later and slower. */
export function partsNamedIn(bundle: string): PartName[] {
  return (Object.keys(PARTS) as PartName[]).filter((name) => {
    const { globals } = PARTS[name];
    return globals.length > 0 && new RegExp(`(?<![\\w$])(?:${globals.join('|')})(?![\\w$])`).test(bundle);
  });
}
