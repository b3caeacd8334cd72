import { decodeConfiguration as decode, type Configuration } from '#raft';
import { ControlKind, batchControlKind, batchControlPayload, batchIsControl } from '#wire';

/** The configuration that a batch brings into force; null for any other batch. */
export const decodeConfiguration = (bytes: Uint8Array): Configuration | null =>
  batchIsControl(bytes) && batchControlKind(bytes) === ControlKind.Configuration
    ? decode(batchControlPayload(bytes))
    : null;
