import * as whatwgUrl from 'whatwg-url';

export const URL = whatwgUrl.URL;
export type URL = whatwgUrl.URL;
export const URLSearchParams = whatwgUrl.URLSearchParams;
export type URLSearchParams = whatwgUrl.URLSearchParams;
