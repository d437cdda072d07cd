import { z } from 'zod';
import { INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT } from '../trust-anchors.ts';

/** Why a demand is not made. Part of every result, so that nobody takes a check for granted that was not made. */
export const reason = z.string().min(1).max(300);

/** A check that the policy leaves out, and why. */
export const notChecked = z.strictObject({ notChecked: reason });
/** A whole part of the evidence that the policy does without, and why. */
export const notRequired = z.strictObject({ notRequired: reason });
/** What production does without, and why it is accepted here. */
export const forbiddenOr = z.union([z.literal('forbidden'), notChecked]);
export const bitDemand = z.union([z.literal('required'), z.literal('forbidden'), notChecked]);
/** For endorsements: one that is supplied is verified always, so that leaving it out cannot hide a bad one. */
export const requiredOr = z.union([z.literal('required'), notChecked]);
const VALUES_MAX = 256;

/** Reference values of so many bytes; any one of them is accepted, so an empty list accepts nothing. */
export function references(bytes: number) {
  const value = z
    .string()
    .regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `expected ${bytes * 2} lower-case hexadecimal digits`);
  return z.union([z.array(value).max(VALUES_MAX), notChecked]);
}
export type References = readonly string[] | { readonly notChecked: string };

/** Root of a simulated platform: SHA-256 of its certificate's DER. */
export const simulatedRoot = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'expected the 64 hexadecimal digits of a SHA-256')
  .refine((root) => root !== INTEL_SGX_ROOT && root !== NVIDIA_DEVICE_ROOT, {
    message: "a simulated root cannot be a vendor's root",
  });

export function isNotChecked(field: unknown): field is { readonly notChecked: string } {
  return typeof field === 'object' && field !== null && 'notChecked' in field;
}
