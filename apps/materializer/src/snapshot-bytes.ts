import { TidelineError, toTidelineError } from '#kernel';
import {
  MapViewSlotsRestorer,
  SNAPSHOT_FOOTER_BYTES,
  decodeSnapshotFooter,
  decodeSnapshotTable,
  type MapView,
  type MapViewOptions,
  type SlotPlace,
  type SnapshotTable,
} from '#views';

/** Read at once, and as much again meanwhile. The process does other things between two pieces. */
const READ_BYTES = 512 * 1024;
/** Of a preamble or a table: results and names of one partition. */
const PART_BYTES_MAX = 256 * 1024 * 1024;

/** A snapshot that can be read from anywhere in it: a file here, or one on another host. */
export interface SnapshotBytes {
  /** For people. */
  readonly name: string;
  readonly bytes: number;
  /** So many, no fewer. */
  read(position: number, length: number): Promise<Buffer>;
  close(): void;
}

export interface LoadedSnapshot {
  /** Slots that could not be read are stopped in it. */
  readonly view: MapView;
  readonly damaged: readonly { readonly slot: number; readonly reason: string }[];
}

export interface LoadRequest {
  /** With `slots`, only these are read. */
  readonly options: MapViewOptions;
  /** Of what is to be read, 0 … 1. */
  readonly progress?: (part: number) => void;
  readonly cancelled?: () => boolean;
}

/**
 * The view of a snapshot, slot by slot: one that is damaged, or does not come, is no matter to the others.
 * @throws (rejects) TidelineError `storage-damaged` | `unsupported-version` when head or table are not good, `shutting-down` when cancelled
 */
export const loadSnapshot = async (from: SnapshotBytes, request: LoadRequest): Promise<LoadedSnapshot> => {
  const { options, progress, cancelled } = request;
  const table = await readTable(from);
  if (table.preambleBytes > PART_BYTES_MAX)
    throw new TidelineError('storage-damaged', 'the snapshot has too long a head');
  const restorer = new MapViewSlotsRestorer(await from.read(0, table.preambleBytes), table, options);
  const places = table.slots.filter(({ slot }) => options.slots === undefined || options.slots.has(slot));
  const total = places.reduce((sum, { bytes }) => sum + bytes, 0);
  const reader = new SlotByteReader(restorer, places);
  let done = 0;
  const waiting: { position: number; length: number; bytes: Promise<Buffer | TidelineError> }[] = [];
  const extents = extentsOf(places);
  const readAhead = (): void => {
    const next = extents.next();
    if (next.done === true) return;
    const { position, length } = next.value;
    // Not thrown where nobody waits yet.
    waiting.push({ position, length, bytes: from.read(position, length).catch(toTidelineError) });
  };
  readAhead();
  readAhead();
  for (let piece = waiting.shift(); piece !== undefined; piece = waiting.shift()) {
    const bytes = await piece.bytes;
    if (cancelled?.() === true) throw new TidelineError('shutting-down', 'the snapshot is not wanted any more');
    readAhead();
    if (Buffer.isBuffer(bytes)) reader.piece(piece.position, bytes);
    else reader.lost(piece.position, piece.length, bytes.message);
    done += piece.length;
    progress?.(total === 0 ? 1 : done / total);
  }
  return { view: restorer.finish(), damaged: reader.damaged };
};

export const readTable = async (from: SnapshotBytes): Promise<SnapshotTable> => {
  const footerAt = from.bytes - SNAPSHOT_FOOTER_BYTES;
  if (footerAt < 0) throw new TidelineError('storage-damaged', 'the snapshot is too short');
  const { position, bytes } = decodeSnapshotFooter(await from.read(footerAt, SNAPSHOT_FOOTER_BYTES), from.bytes);
  return decodeSnapshotTable(await from.read(position, bytes));
};

/** Pieces that cover the slots, several small ones in one piece, large ones in many. */
function* extentsOf(places: readonly SlotPlace[]): Generator<{ position: number; length: number }, void, undefined> {
  for (let at = 0; at < places.length;) {
    const start = places[at].position;
    let end = start + places[at].bytes;
    for (at++; at < places.length && places[at].position === end; at++) end += places[at].bytes;
    for (let position = start; position < end; position += READ_BYTES) {
      yield { position, length: Math.min(READ_BYTES, end - position) };
    }
  }
}

/** Hands pieces, which come in the order of their positions, to the slots they are of. */
class SlotByteReader {
  readonly damaged: { slot: number; reason: string }[] = [];
  private at = 0;
  private begun = false;
  /** The slot at hand is lost; its bytes are passed over. */
  private failed = false;

  constructor(
    private readonly restorer: MapViewSlotsRestorer,
    private readonly places: readonly SlotPlace[],
  ) {}

  piece(position: number, bytes: Buffer): void {
    this.each(position, bytes.length, (place, start, end) => {
      if (!this.begun) {
        this.restorer.begin(place);
        this.begun = true;
      }
      this.restorer.push(bytes.subarray(start - position, end - position));
    });
  }

  /** These bytes do not come. */
  lost(position: number, length: number, reason: string): void {
    this.each(position, length, () => {
      throw new TidelineError('storage-damaged', reason);
    });
  }

  private each(position: number, length: number, take: (place: SlotPlace, start: number, end: number) => void): void {
    const pieceEnd = position + length;
    for (let start = position; start < pieceEnd && this.at < this.places.length;) {
      const place = this.places[this.at];
      const slotEnd = place.position + place.bytes;
      const end = Math.min(pieceEnd, slotEnd);
      this.attempt(place, () => take(place, start, end));
      start = end;
      if (end < slotEnd) break;
      this.attempt(place, () => this.restorer.end(place));
      this.at++;
      this.begun = this.failed = false;
    }
  }

  private attempt(place: SlotPlace, step: () => void): void {
    if (this.failed) return;
    try {
      step();
    } catch (error) {
      this.failed = true;
      this.damaged.push({ slot: place.slot, reason: toTidelineError(error).message });
    }
  }
}
