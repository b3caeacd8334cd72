/**
 * What happens after the callbacks (of sockets, files, timers) of one pass of Node's event loop:
 *
 *     callbacks ──► deferred tasks ──► promise reactions ──► endings
 *                   in one setImmediate                      what is to be sent is sent
 *
 * Everything deferred runs in one go, and what the tasks and the promise reactions after them have to say leaves in the same pass: a message
 * that is answered costs one pass, not three.
 */
class EventLoopTurn {
  private tasks: (() => void)[] = [];
  private endings: (() => void)[] = [];
  private scheduled = false;
  /** Between the tasks and the endings of one pass. */
  private ending = false;

  /** Runs the task after the callbacks of this pass; when called by a deferred task or later, after those of the next. */
  defer(task: () => void): void {
    this.tasks.push(task);
    this.schedule();
  }

  /** Runs the task at the end of this pass, when all tasks and promise reactions have had their say. Endings that endings ask for come a pass later. */
  atEnd(task: () => void): void {
    this.endings.push(task);
    if (!this.ending) this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(this.run);
  }

  private readonly run = (): void => {
    this.scheduled = false;
    const { tasks } = this;
    if (tasks.length === 0) {
      this.runEndings();
      return;
    }
    this.tasks = [];
    this.ending = true;
    queueMicrotask(this.afterReactions);
    let done = 0;
    try {
      while (done < tasks.length) tasks[done++]();
    } finally {
      // A task that throws takes none of the others with it.
      if (done < tasks.length) {
        this.tasks = [...tasks.slice(done), ...this.tasks];
        this.schedule();
      }
    }
  };

  /** A tick runs when no promise reaction is left. */
  private readonly afterReactions = (): void => {
    process.nextTick(this.runEndings);
  };

  private readonly runEndings = (): void => {
    this.ending = false;
    const { endings } = this;
    if (endings.length === 0) return;
    this.endings = [];
    let done = 0;
    try {
      while (done < endings.length) endings[done++]();
    } finally {
      if (done < endings.length) {
        this.endings = [...endings.slice(done), ...this.endings];
        this.schedule();
      }
    }
  };
}

export const eventLoopTurn = new EventLoopTurn();
