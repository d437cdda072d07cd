import { z } from 'zod';
import { digestSchema } from '../proto/index.ts';

export const deploymentSchema = z.object({
  id: z.int(),
  versions: z.array(z.object({ version: digestSchema, percent: z.number() })),
  at: z.string(),
  cause: z.string(),
  message: z.string(),
});
type Deployment = z.infer<typeof deploymentSchema>;

/** What the gateway says of a deployment that it made. */
export const deployedSchema = z.object({
  deployment: deploymentSchema,
  workers: z.array(
    z.object({ workerId: z.string(), version: z.string(), loaded: z.boolean(), code: z.string().optional() }),
  ),
});

export function deployedLines({ deployment, workers }: z.infer<typeof deployedSchema>): string[] {
  return [
    ...splitLines(deployment),
    ...workers.flatMap(({ workerId, version, loaded, code }) =>
      loaded ? [] : [`worker ${workerId.slice(0, 16)}… cannot load ${version.slice(0, 12)}: ${code}`],
    ),
  ];
}

const splitLines = ({ versions }: Deployment): string[] =>
  versions.map(({ version, percent }) => `${String(percent).padStart(3)} % ${version}`);
