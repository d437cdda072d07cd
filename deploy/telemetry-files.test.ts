import { readFileSync } from 'node:fs';
import { parser } from '@prometheus-io/lezer-promql';
import { describe, expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { isListed, METRICS, type LabelValues, type MetricName } from '../gateway/telemetry-names.ts';

// What is shipped for Grafana and Prometheus asks for metrics that there are.

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');

/** As far as Grafana's schema 39 says what a dashboard must have. */
const dashboardSchema = z.object({
  uid: z.string().min(1).max(40),
  title: z.string().min(1),
  schemaVersion: z.literal(39),
  time: z.object({ from: z.string(), to: z.string() }),
  templating: z.object({
    list: z.array(z.object({ name: z.string(), type: z.enum(['datasource', 'query']), query: z.string() })).min(1),
  }),
  annotations: z.object({ list: z.array(z.unknown()) }),
  panels: z.array(
    z.discriminatedUnion('type', [
      z.object({ type: z.literal('row'), id: z.int(), title: z.string(), gridPos: z.unknown() }),
      z.object({
        type: z.enum(['timeseries', 'stat']),
        id: z.int(),
        title: z.string().min(1),
        datasource: z.object({ type: z.literal('prometheus'), uid: z.literal('${source}') }),
        gridPos: z.object({
          x: z.int().min(0).max(23),
          y: z.int().min(0),
          w: z.int().min(1).max(24),
          h: z.int().min(1),
        }),
        fieldConfig: z.object({ defaults: z.object({ unit: z.string() }), overrides: z.array(z.unknown()) }),
        targets: z
          .array(
            z.object({ refId: z.string().regex(/^[A-Z]$/), expr: z.string(), legendFormat: z.string().optional() }),
          )
          .min(1),
      }),
    ]),
  ),
});
const dashboard = dashboardSchema.parse(JSON.parse(read('grafana/cfn.json')));
const panels = dashboard.panels.filter((panel) => panel.type !== 'row');

const rulesSchema = z.strictObject({
  groups: z.array(
    z.strictObject({
      name: z.string(),
      rules: z.array(
        z.strictObject({
          alert: z.string().regex(/^Cfn[A-Za-z]+$/),
          expr: z.string(),
          for: z
            .string()
            .regex(/^\d+[smh]$/)
            .optional(),
          labels: z.strictObject({ severity: z.enum(['page', 'ticket']) }),
          annotations: z.strictObject({ summary: z.string() }),
        }),
      ),
    }),
  ),
});
const rules = rulesSchema.parse(parseYaml(read('prometheus/cfn-alerts.yml'))).groups.flatMap((group) => group.rules);

const queries: [string, string][] = [
  ...panels.flatMap((panel) => panel.targets.map(({ expr }): [string, string] => [panel.title, expr])),
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
];

/** What an expression of PromQL asks for that there is not, or `no PromQL`. */
function missing(expr: string): string[] {
  const text = expr.replaceAll('$__rate_interval', '5m');
  const found: string[] = [];
  let metric: string | undefined;
  parser.parse(text).iterate({
    enter({ type, name, from, to, node }) {
      if (type.isError) found.push('no PromQL');
      const own = text.slice(from, to);
      if (name === 'VectorSelector') metric = /^[a-z_]+/.exec(own)?.[0];
      if (name === 'Identifier' && node.parent?.name === 'VectorSelector' && definitionOf(own) === undefined)
        found.push(own);
      if (name !== 'UnquotedLabelMatcher') return;
      const [, label = '', operator = '', value = ''] = /^(\w+)\s*(=~|!~|=|!=)\s*"(.*)"$/s.exec(own) ?? [];
      if (!matchesSome(definitionOf(metric ?? '')?.[label], operator, value)) found.push(own);
    },
  });
  return found;
}

/** Labels of a series. */
function definitionOf(series: string): Readonly<Record<string, LabelValues>> | undefined {
  const base = series.replace(/_(bucket|sum|count)$/, '');
  if (base !== series && Object.hasOwn(METRICS, base) && METRICS[base as MetricName].type === 'histogram')
    return METRICS[base as MetricName].labels;
  const isPlain = Object.hasOwn(METRICS, series) && METRICS[series as MetricName].type !== 'histogram';
  return isPlain ? METRICS[series as MetricName].labels : undefined;
}

/** Each alternative of a pattern must be the name of something. */
function matchesSome(values: LabelValues | undefined, operator: string, value: string): boolean {
  if (values === undefined) return false;
  if (!operator.endsWith('~')) return isListed(values, value);
  if (values instanceof RegExp) return false;
  const [, prefix = '', inner = value] = /^(.*?)\((.*)\)$/.exec(value) ?? [];
  return inner.split('|').every((part) => values.includes(prefix + part));
}

test.each(queries)('%s asks for what there is: %s', (_, expr) => {
  expect(missing(expr)).toEqual([]);
});

test('a query for what there is not is noticed', () => {
  expect(missing('sum(rate(cfn_prompts_total[5m]))')).toEqual(['cfn_prompts_total']);
  expect(missing('cfn_requests_total{tenant="acme"}')).toEqual(['tenant="acme"']);
  expect(missing('cfn_requests_total{outcome=~"ok|CFN_NO_SUCH"}')).toEqual(['outcome=~"ok|CFN_NO_SUCH"']);
  expect(missing('cfn_request_seconds')).toEqual(['cfn_request_seconds']); // a histogram has no series of its bare name
  expect(missing('sum(rate(')).toContain('no PromQL');
});

describe('panels', () => {
  test('have ids of their own, and letters for their queries', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { targets } of panels) expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
  });

  test('do not lie over each other, or beyond the edge', () => {
    const cells = new Set<string>();
    for (const { title, gridPos } of panels)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(x, title).toBeLessThan(24);
          expect(cells.has(`${x},${y}`), title).toBe(false);
          cells.add(`${x},${y}`);
        }
  });
});
