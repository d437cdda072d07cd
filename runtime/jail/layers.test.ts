import { expect, test } from 'vitest';
import { describeLayers, LAYERS, requireEveryLayer, type Layer } from './layers.ts';

const all: readonly Layer[] = LAYERS.map((name) => ({ name, inForce: true, detail: 'seen' }));

test('a worker that requires the jail goes on with every layer', () => {
  expect(() => requireEveryLayer(all)).not.toThrow();
  expect(describeLayers(all)).toMatch(/^all 6 layers in force/);
});

test.each(LAYERS)('INV-16 and is refused without the %s', (name) => {
  const without = all.map((layer) => (layer.name === name ? { ...layer, inForce: false } : layer));
  for (const layers of [without, all.filter((layer) => layer.name !== name), []]) {
    expect(() => requireEveryLayer(layers)).toThrow(expect.objectContaining({ code: 'CFN_JAIL_INCOMPLETE' }));
  }
  expect(describeLayers(without)).toMatch(`missing: ${name};`);
});
