export * from './archive.js';
export * from './archive-gaps.js';
export { openCatalog, type Catalog } from './catalog.js';
export { ARCHIVE, CATALOG, CatalogModule, SNAPSHOT_CATALOG } from './catalog-module.js';
export { withoutPassword } from './data-source.js';
export * from './snapshot-catalog.js';
