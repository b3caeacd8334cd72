import type { Script } from '../run.js';

export const SCENARIOS: Record<string, Script> = {};

export const isScenarioName = (name: string): boolean => Object.hasOwn(SCENARIOS, name);
