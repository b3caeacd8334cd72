/**
 * Nothing in a simulation may know the real time or wait for it. While a run is under way, whoever asks fails; what sets a real timer is run at
 * the end of the event instead (rxjs throws a subscriber's exception that way: it ends the run).
 */
export class WallTimeTrap {
  private readonly setTimeout = globalThis.setTimeout;
  private readonly dateNow = Date.now;
  private readonly random = Math.random;

  constructor(defer: (task: () => void) => void) {
    globalThis.setTimeout = ((task: () => void) => {
      defer(task);
    }) as unknown as typeof globalThis.setTimeout;
    Date.now = () => {
      throw new Error('something in the simulation asks for the real time');
    };
    Math.random = () => {
      throw new Error('something in the simulation draws unseeded numbers');
    };
  }

  release(): void {
    globalThis.setTimeout = this.setTimeout;
    Date.now = this.dateNow;
    Math.random = this.random;
  }
}
