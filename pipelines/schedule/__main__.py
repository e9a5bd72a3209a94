from pipelines.schedule.command import main

main()
