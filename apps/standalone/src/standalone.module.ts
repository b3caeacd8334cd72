import { Module, type DynamicModule } from '@nestjs/common';
import type { TidelineLogger, TidelineOptions } from '#platform';
import { GatewayModule } from '#apps/gateway';
import { MaterializerModule, ViewHost } from '#apps/materializer';
import { COMMAND_LOG, RaftLogModule } from '#apps/raft-log';

/** The three apps in one process: the same modules, their ports wired to each other instead of to sockets. */
@Module({})
export class StandaloneModule {
  static forRoot(options: TidelineOptions, logger: TidelineLogger): DynamicModule {
    const raftLog = RaftLogModule.forRoot(options, logger);
    const materializer = MaterializerModule.forRoot({
      options,
      imports: [raftLog],
      commandLog: { useExisting: COMMAND_LOG },
    });
    const gateway = GatewayModule.forRoot({
      options,
      imports: [raftLog, materializer],
      commandLog: { useExisting: COMMAND_LOG },
      viewQuery: { useExisting: ViewHost },
    });
    return { module: StandaloneModule, imports: [raftLog, materializer, gateway] };
  }
}
