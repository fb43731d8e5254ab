"""A Modbus TCP server made by pymodbus: 100 registers of each table, each holding its own offset.

Events: ready, connected, disconnected, request {unit, function}.
"""

import asyncio
import sys
import threading

from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer

from peer import arguments, emit, wait_for_the_end


def on_connect(connected):
    emit("connected" if connected else "disconnected")


def on_request(sending, pdu):
    if not sending:
        emit("request", unit=pdu.dev_id, function=pdu.function_code)
    return pdu


def device():
    # A block starts at 1, and pymodbus adds 1 to the offset on the wire.
    registers = lambda: ModbusSequentialDataBlock(1, list(range(100)))
    return ModbusDeviceContext(di=registers(), co=registers(), hr=registers(), ir=registers())


async def main():
    parser = arguments(__doc__, 502)
    parser.add_argument("--unit", type=int, action="append", help="a unit id; may be given again (default: 1)")
    chosen = parser.parse_args()
    context = ModbusServerContext(devices={unit: device() for unit in chosen.unit or [1]}, single=False)
    server = ModbusTcpServer(context, address=(chosen.address, chosen.port), trace_connect=on_connect, trace_pdu=on_request)
    if not await server.serve_forever(background=True) and not server.transport:
        sys.exit(f"cannot listen on {chosen.address}:{chosen.port}")
    emit("ready")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (wait_for_the_end(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    await ended.wait()
    await server.shutdown()


asyncio.run(main())
