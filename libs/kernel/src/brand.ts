/**
 * Branded numbers: a number that says what it counts, at no cost at run time.
 * All of them are whole numbers between 0 and 2^53 − 1.
 */
declare const brand: unique symbol;

export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Position of a record in its partition (= its Raft log index). The first record of a log has offset 1; 0 means "before the log". */
export type Offset = Brand<number, 'Offset'>;

/** Raft election term; 0 before the first election. */
export type Term = Brand<number, 'Term'>;

/** Identity of a node in the cluster, 1 … 2^31 − 1. 0 means "nobody". */
export type NodeId = Brand<number, 'NodeId'>;

/** Identity of a Raft group on the wire and on disk. Group 0 is the cluster's metadata. */
export type GroupId = Brand<number, 'GroupId'>;

/** Index of a partition within its topic, from 0. */
export type PartitionId = Brand<number, 'PartitionId'>;

/** Milliseconds since the Unix epoch as stamped by a leader; never decreases along a partition. */
export type LogTime = Brand<number, 'LogTime'>;

export const asOffset = (n: number): Offset => n as Offset;
export const asTerm = (n: number): Term => n as Term;
export const asNodeId = (n: number): NodeId => n as NodeId;
export const asGroupId = (n: number): GroupId => n as GroupId;
export const asPartitionId = (n: number): PartitionId => n as PartitionId;
export const asLogTime = (n: number): LogTime => n as LogTime;

export const NO_OFFSET: Offset = asOffset(0);
export const NO_TERM: Term = asTerm(0);
export const NO_NODE: NodeId = asNodeId(0);
/** The group of the cluster's metadata (`__meta`). */
export const META_GROUP: GroupId = asGroupId(0);
