"""A DNP3 master made by opendnp3 that asks for all classes again and again.

Events: ready, channel {state} (OPEN means connected), task {kind, result} at the end of each task, fragment {unsolicited} and
analogs {values: [[index, value], ...]} for each response, iin {lsb, msb} with each response, link_status {ok}.
"""

import threading

import opendnp3

from peer import arguments, emit, wait_for_the_end


class ChannelListener(opendnp3.IChannelListener):
    def OnStateChange(self, state):
        emit("channel", state=state.name)


class MeasurementHandler(opendnp3.ISOEHandler):
    def BeginFragment(self, info):
        emit("fragment", unsolicited=info.unsolicited)

    def EndFragment(self, info):
        pass

    def Process(self, info, values):
        values = list(values)
        if values and isinstance(values[0], opendnp3.IndexedAnalog):
            emit("analogs", values=[[point.index, point.value.value] for point in values])


class Application(opendnp3.IMasterApplication):
    def OnTaskComplete(self, info):
        emit("task", kind=info.type.name, result=info.result.name)

    def OnReceiveIIN(self, iin):
        emit("iin", lsb=iin.LSB, msb=iin.MSB)


def main():
    parser = arguments(__doc__, 20000)
    parser.add_argument("--station", type=int, default=10, help="the link address of the outstation")
    parser.add_argument("--master", type=int, default=1, help="its own link address")
    parser.add_argument("--period-ms", type=int, default=500, help="from one poll to the next")
    parser.add_argument("--keep-alive-s", type=int, default=1, help="ask for the link status after this much silence")
    chosen = parser.parse_args()

    manager = opendnp3.DNP3Manager(1)
    # Each handler needs a name here: the library keeps no Python reference.
    listener, measurements, application = ChannelListener(), MeasurementHandler(), Application()
    retry = opendnp3.ChannelRetry(opendnp3.TimeDuration.Milliseconds(200), opendnp3.TimeDuration.Seconds(1))
    endpoint = opendnp3.IPEndpoint(chosen.address, chosen.port)
    channel = manager.AddTCPClient("client", opendnp3.levels.NOTHING, retry, [endpoint], "0.0.0.0", listener)

    config = opendnp3.MasterStackConfig()
    config.link.LocalAddr = chosen.master
    config.link.RemoteAddr = chosen.station
    config.link.KeepAliveTimeout = opendnp3.TimeDuration.Seconds(chosen.keep_alive_s)
    config.master.responseTimeout = opendnp3.TimeDuration.Seconds(2)
    config.master.disableUnsolOnStartup = False
    master = channel.AddMaster("master", measurements, application, config)
    period = opendnp3.TimeDuration.Milliseconds(chosen.period_ms)
    master.AddClassScan(opendnp3.ClassField.AllClasses(), period, measurements)
    master.Enable()
    threading.Thread(target=check_link, args=[master], daemon=True).start()
    emit("ready")
    wait_for_the_end()
    manager.Shutdown()


def check_link(master):
    """Asks for the link status until it is told; before the channel is open it cannot be."""
    told = threading.Event()

    def tell(ok):
        emit("link_status", ok=ok)
        if ok:
            told.set()

    while not told.wait(0.3):
        master.CheckLinkStatus(lambda result: tell(bool(result)))


main()
