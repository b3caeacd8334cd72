import { Module, type DynamicModule } from '@nestjs/common';
import type { TidelineLogger, TidelineOptions } from '#platform';
import { GatewayModule } from '#apps/gateway';
import { MaterializerModule, ViewHost } from '#apps/materializer';
import { COMMAND_LOG, RaftLogModule } from '#apps/raft-log';
import type { ViewType } from '#views';

export interface StandaloneParts {
  /** Projections: classes marked with `@View`. */
  readonly views?: readonly ViewType[];
}

/** The three apps in one process: the same modules, their ports wired to each other instead of to sockets. */
@Module({})
export class StandaloneModule {
  /** @throws TidelineError `bad-option` for a view that cannot be hosted */
  static forRoot(options: TidelineOptions, logger: TidelineLogger, parts: StandaloneParts = {}): DynamicModule {
    const raftLog = RaftLogModule.forRoot(options, logger);
    const materializer = MaterializerModule.forRoot({
      options,
      imports: [raftLog],
      commandLog: { useExisting: COMMAND_LOG },
      ...parts,
    });
    const gateway = GatewayModule.forRoot({
      options,
      imports: [raftLog, materializer],
      commandLog: { useExisting: COMMAND_LOG },
      viewQuery: { useExisting: ViewHost },
    });
    return { module: StandaloneModule, imports: [raftLog, materializer, gateway], exports: [materializer] };
  }
}
