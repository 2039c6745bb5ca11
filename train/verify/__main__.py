from train.verify.published import main

if __name__ == "__main__":
    main()
