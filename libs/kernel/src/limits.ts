/** Limits that are part of the contract with users; each is configurable where it is enforced. Bytes unless the name says otherwise. */
export const KEY_BYTES_MAX = 4 * 1024;
export const RECORD_BYTES_MAX = 1024 * 1024;
export const REQUEST_BYTES_MAX = 16 * 1024 * 1024;
export const HEADER_BYTES_MAX = 16 * 1024;
export const JSON_DEPTH_MAX = 64;
export const TRANSACTION_COMMANDS_MAX = 128;
/** Keys that one request may ask a view for. */
export const GET_KEYS_MAX = 1024;
/** Largest batch a log accepts: a request's worth plus its framing. */
export const BATCH_BYTES_MAX = REQUEST_BYTES_MAX + 64 * 1024;
export const TOPIC_NAME_PATTERN = /^[a-zA-Z0-9._-]{1,128}$/;
