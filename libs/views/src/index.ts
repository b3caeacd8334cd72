export type * from './view-query.js';
