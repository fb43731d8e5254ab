"""A DNP3 outstation made by opendnp3, with four analog inputs, of which the first changes every second.

It accepts one connection at a time; by default a second one closes the first, as the outstations of a site do.
Events: ready, channel {state} (OPENING means listening, OPEN means that a master is connected), confirmed {unsolicited}.
"""

import threading

import opendnp3

from peer import arguments, emit, wait_for_the_end


class ChannelListener(opendnp3.IChannelListener):
    def OnStateChange(self, state):
        emit("channel", state=state.name)


class CommandHandler(opendnp3.ICommandHandler):
    pass


class Application(opendnp3.IOutstationApplication):
    def OnConfirmProcessed(self, is_unsolicited, num_class1, num_class2, num_class3):
        emit("confirmed", unsolicited=is_unsolicited)


def main():
    parser = arguments(__doc__, 20000)
    parser.add_argument("--station", type=int, default=10, help="its own link address")
    parser.add_argument("--master", type=int, default=1, help="the link address of its master")
    parser.add_argument("--unsolicited", action="store_true", help="let it report unasked")
    parser.add_argument("--keep-first", action="store_true", help="close a second connection rather than the first")
    chosen = parser.parse_args()

    mode = opendnp3.ServerAcceptMode.CloseNew if chosen.keep_first else opendnp3.ServerAcceptMode.CloseExisting
    endpoint = opendnp3.IPEndpoint(chosen.address, chosen.port)
    manager = opendnp3.DNP3Manager(1)
    # Each handler needs a name here: the library keeps no Python reference.
    listener, commands, application = ChannelListener(), CommandHandler(), Application()
    channel = manager.AddTCPServer("server", opendnp3.levels.NOTHING, mode, endpoint, listener)

    config = opendnp3.OutstationStackConfig(opendnp3.DatabaseConfig(4))
    config.link.LocalAddr = chosen.station
    config.link.RemoteAddr = chosen.master
    config.outstation.params.allowUnsolicited = chosen.unsolicited
    outstation = channel.AddOutstation("outstation", commands, application, config)
    outstation.Enable()
    emit("ready")

    ended = threading.Event()
    threading.Thread(target=lambda: (wait_for_the_end(), ended.set()), daemon=True).start()
    seconds = 0
    while not ended.wait(1):
        seconds += 1
        update = opendnp3.UpdateBuilder()
        update.Update(opendnp3.Analog(float(seconds)), 0)
        outstation.Apply(update.Build())
    manager.Shutdown()


main()
