import { Apply, View, expiring, type Next, type ViewEvent } from '#views';

export interface OrderTotal {
  readonly customer: string;
  readonly status: 'open' | 'paid';
  readonly cents: number;
}

interface ItemAdded {
  readonly customer: string;
  readonly cents: number;
}

/** What a user writes: docs/projections.md explains it line by line. */
@View<OrderTotal>({
  topic: 'orders',
  name: 'order-totals',
  version: 1,
  indexes: { customer: (order) => order.customer, status: (order) => order.status },
})
export class OrderTotals {
  @Apply('item-added')
  itemAdded(order: OrderTotal | null, { value }: ViewEvent<ItemAdded>): OrderTotal {
    if (!Number.isSafeInteger(value.cents)) throw new RangeError(`${value.cents} is no price`);
    return { customer: value.customer, status: order?.status ?? 'open', cents: (order?.cents ?? 0) + value.cents };
  }

  @Apply('paid')
  paid(order: OrderTotal | null): Next<OrderTotal> {
    return order === null ? undefined : { ...order, status: 'paid' };
  }

  @Apply('reserved')
  reserved(order: OrderTotal | null, { value }: ViewEvent<{ forMs: number }>): Next<OrderTotal> {
    return order === null ? undefined : expiring(order, value.forMs);
  }

  @Apply('cancelled')
  cancelled(): null {
    return null;
  }
}
