/** Media types of chunked OHTTP. */
const SEALED_REQUEST = 'message/ohttp-chunked-req';
export const SEALED_RESPONSE = 'message/ohttp-chunked-res';

export const isSealed = (contentType: string | undefined): boolean =>
  contentType?.split(';', 1)[0]?.trim().toLowerCase() === SEALED_REQUEST;
