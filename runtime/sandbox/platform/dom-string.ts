/** Web IDL's conversion to DOMString: as in a template, so that a symbol is refused. */
export const domString = (value: unknown): string => `${value as string}`;
