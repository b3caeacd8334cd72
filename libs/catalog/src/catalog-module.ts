import { Global, Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { openCatalog, type Catalog } from './catalog.js';

/** Injection tokens of the Catalog and of its two parts. */
export const CATALOG = Symbol('Catalog');
export const SNAPSHOT_CATALOG = Symbol('SnapshotCatalog');
export const ARCHIVE = Symbol('Archive');

/** Opens the catalog when the app starts and closes it last, after everything that may still write to it. */
@Global()
@Module({})
export class CatalogModule implements OnApplicationShutdown {
  constructor(@Inject(CATALOG) private readonly catalog: Catalog) {}

  static forRoot(url: string): DynamicModule {
    return {
      module: CatalogModule,
      providers: [
        { provide: CATALOG, useFactory: () => openCatalog(url) },
        { provide: SNAPSHOT_CATALOG, useFactory: (catalog: Catalog) => catalog.snapshots, inject: [CATALOG] },
        { provide: ARCHIVE, useFactory: (catalog: Catalog) => catalog.archive, inject: [CATALOG] },
      ],
      exports: [CATALOG, SNAPSHOT_CATALOG, ARCHIVE],
    };
  }

  onApplicationShutdown(): Promise<void> {
    return this.catalog.close();
  }
}
