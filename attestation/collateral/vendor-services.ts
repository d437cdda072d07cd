import { CfnError } from '../../proto/index.ts';
import { amdKds } from './amd.ts';
import { intelCollateral } from './intel.ts';
import { nvidiaCollateral } from './nvidia.ts';
import type { HttpOptions } from './http.ts';

/** Where vendors' endorsements come from; a service without an address is not asked. */
export interface VendorUrls {
  /** Intel's PCS, `https://api.trustedservices.intel.com`, or a PCCS. */
  readonly pccs?: string | undefined;
  /** AMD's KDS, `https://kdsintf.amd.com`, or a cache of it. */
  readonly kds?: string | undefined;
  /** NVIDIA's RIM service, `https://rim.attestation.nvidia.com`. */
  readonly rim?: string | undefined;
  /** NVIDIA's OCSP responder, `https://ocsp.ndis.nvidia.com`. */
  readonly ocsp?: string | undefined;
}

export interface VendorOptions extends HttpOptions {
  readonly urls: VendorUrls;
  readonly now: () => Date;
}

/** The services that have an address; each verifies what it gives out, and keeps it while it counts. */
export interface VendorServices {
  readonly intel: ReturnType<typeof intelCollateral> | undefined;
  readonly amd: ReturnType<typeof amdKds> | undefined;
  readonly nvidia: ReturnType<typeof nvidiaCollateral> | undefined;
}

/**
 * @throws {CfnError} `CFN_USAGE` for an address that is no http or https URL, or has a user, a query or a fragment. Plain HTTP will
 *   do, as everything that comes is signed.
 */
export function vendorServices({ urls, ...options }: VendorOptions): VendorServices {
  const [pccs, kds, rim, ocsp] = (['pccs', 'kds', 'rim', 'ocsp'] as const).map((name) => address(name, urls[name]));
  return {
    intel: pccs === undefined ? undefined : intelCollateral({ ...options, url: pccs }),
    amd: kds === undefined ? undefined : amdKds({ ...options, url: kds }),
    nvidia:
      rim === undefined && ocsp === undefined
        ? undefined
        : nvidiaCollateral({ ...options, rimUrl: rim, ocspUrl: ocsp }),
  };
}

function address(name: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const url = URL.parse(text);
  const isPlain = url !== null && url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (!isPlain || !['http:', 'https:'].includes(url.protocol))
    throw new CfnError('CFN_USAGE', `--${name} is ${text}, expected a URL such as https://host:8081`);
  return url.href.replace(/\/+$/, '');
}
