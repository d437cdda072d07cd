/** How the bundler carries files that are not code: text as a string, WebAssembly as its bytes. */
declare module '*.txt' {
  const text: string;
  export default text;
}
declare module '*.wasm' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}
