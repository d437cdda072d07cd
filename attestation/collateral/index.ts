export { endorseEvidence } from './endorse-evidence.ts';
export { endorseInputs } from './endorse-inputs.ts';
export { vendorServices, type VendorServices, type VendorUrls } from './vendor-services.ts';
