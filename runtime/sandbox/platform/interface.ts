// The function may have changed every prototype before a part is loaded: nothing is looked up on one.
const { getOwnPropertyNames, getOwnPropertyDescriptor, defineProperty } = Object;
const { toStringTag } = Symbol;

/** Makes the members of a class what Web IDL makes of an interface's: enumerable, with a tag that is data. Other values are let be. */
export function asInterface(name: string, value: unknown): void {
  if (typeof value !== 'function') return;
  const { prototype } = value as { prototype?: object };
  // The bundler renames classes where names meet.
  defineProperty(value, 'name', bare({ value: name, configurable: true }));
  if (prototype === undefined || isLowerCase(name)) return;
  publish(value);
  publish(prototype);
  defineProperty(prototype, toStringTag, bare({ value: name, configurable: true }));
}
function publish(holder: object): void {
  const names = getOwnPropertyNames(holder);
  for (let i = 0; i < names.length; i++) {
    const key = names[i] as string;
    if (key === 'constructor' || (typeof holder === 'function' && (key === 'name' || key === 'length'))) continue;
    const found = getOwnPropertyDescriptor(holder, key);
    if (found?.configurable) defineProperty(holder, key, bare({ ...found, enumerable: true }));
  }
}
/** Functions such as `atob`, not classes. */
const isLowerCase = (name: string): boolean => (name[0] ?? '') >= 'a';
const bare = (descriptor: PropertyDescriptor): PropertyDescriptor => ({ __proto__: null, ...descriptor }) as object;
