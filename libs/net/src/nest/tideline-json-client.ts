import { ClientTCP, type ReadPacket, type WritePacket } from '@nestjs/microservices';

/** A stock JSON TCP client that also tells the server when a subscriber leaves before the end, so that a stream's producer stops. */
export class TidelineJsonClient extends ClientTCP {
  protected override publish(partialPacket: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    let over = false;
    const forget = super.publish(partialPacket, (packet) => {
      over ||= packet.isDisposed === true || Boolean(packet.err);
      callback(packet);
    });
    return () => {
      forget();
      if (over) return;
      over = true;
      // Nest has put the id into the packet it was given.
      const { id } = partialPacket as ReadPacket & { id?: string };
      this.socket?.sendMessage({ id, isDisposed: true });
    };
  }
}
