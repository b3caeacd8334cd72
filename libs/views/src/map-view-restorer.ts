import { MapView, type MapViewOptions } from './map-view.js';
import { SlotsReader, SnapshotReader } from './snapshot-reader.js';
import type { SlotPlace, SnapshotTable } from './snapshot-v2.js';

/** Makes a view from a snapshot given in pieces of any size; the time a piece takes grows with its size only. */
export class MapViewRestorer {
  private readonly reader: SnapshotReader;

  constructor(private readonly options: MapViewOptions = {}) {
    this.reader = new SnapshotReader(options);
  }

  /** The piece is copied. @throws TidelineError `storage-damaged` | `unsupported-version` */
  push(piece: Uint8Array): void {
    this.reader.push(piece);
  }

  /** @throws TidelineError `storage-damaged` | `unsupported-version` */
  finish(): MapView {
    return new MapView(this.options, this.reader.finish());
  }
}

/**
 * Makes a view from chosen slots of a snapshot, each given in pieces of any size. A slot that is damaged is no matter to the others: it is
 * stopped in the view that comes of it.
 */
export class MapViewSlotsRestorer {
  private readonly reader: SlotsReader;
  private readonly missing: Set<number>;

  /** @throws TidelineError `storage-damaged` | `unsupported-version` */
  constructor(
    preamble: Buffer,
    table: SnapshotTable,
    private readonly options: MapViewOptions = {},
  ) {
    this.reader = new SlotsReader(preamble, table, options);
    this.missing = new Set(
      table.slots.map(({ slot }) => slot).filter((slot) => options.slots === undefined || options.slots.has(slot)),
    );
  }

  /** The next pieces are of this slot of the table. */
  begin(place: SlotPlace): void {
    this.reader.begin(place);
  }

  /** The piece is copied. @throws TidelineError `storage-damaged`: the slot is lost */
  push(piece: Uint8Array): void {
    this.reader.push(piece);
  }

  /** All pieces of the slot were given. @throws TidelineError `storage-damaged`: the slot is lost */
  end(place: SlotPlace): void {
    this.reader.end();
    this.missing.delete(place.slot);
  }

  /** Nothing more comes. Slots that were not read whole are stopped. */
  finish(): MapView {
    this.reader.abandon();
    const view = new MapView(this.options, this.reader.state);
    if (this.missing.size > 0) view.stopSlots(this.missing);
    return view;
  }
}

/** All pieces of a snapshot at once. @throws TidelineError as MapViewRestorer does */
export const restoreMapView = (pieces: Iterable<Uint8Array>, options: MapViewOptions = {}): MapView => {
  const restorer = new MapViewRestorer(options);
  for (const piece of pieces) restorer.push(piece);
  return restorer.finish();
};
